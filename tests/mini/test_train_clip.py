"""The small CLIP learns, and both libraries load it alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mini import train_clip
from mini.tokens import encode
from mini.training import to_tensor
from tests.mini.helpers import CAPTIONS, TEXTS, falls, short


def test_loads_in_both_libraries(images: NDArray[np.uint8], tmp_path: Path) -> None:
    learner, tokenizer, losses = train_clip.train(images, CAPTIONS, short(60, batch=16), "cpu")
    text_only = round(train_clip.TEXT_ONLY * 60)
    assert falls(losses[:text_only]), "text encoder alone"
    assert falls(losses[text_only:]), "both encoders"
    train_clip.save(tmp_path, learner, tokenizer)

    import open_clip

    where = f"local-dir:{tmp_path}"
    model, _, preprocess = open_clip.create_model_and_transforms(where)
    tokens = open_clip.get_tokenizer(where)(TEXTS[:9])
    encoder, own = train_clip.text_encoder(tmp_path)
    assert torch.equal(tokens, encode(own, TEXTS[:9]))
    with torch.no_grad():
        ours, theirs = model.eval().encode_text(tokens), encoder(tokens).text_embeds
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    from PIL import Image

    torch.testing.assert_close(
        preprocess(Image.fromarray(images[0])), to_tensor(images[:1])[0], rtol=0, atol=1e-6
    )


def test_targets() -> None:
    caption = next(c for c in CAPTIONS if c.statement.relation)
    numbers = train_clip.statement_targets(caption.statement)
    assert len(numbers) == len(train_clip.CLASSES)
    assert all(0 <= number < classes for number, classes in zip(numbers, train_clip.CLASSES, strict=True))
    silent = replace(caption.statement, relation=None, groups=())
    assert sum(train_clip.statement_targets(silent)) == 0
    assert train_clip.scene_targets(caption.scene).shape == (train_clip.SCENE_TARGETS,)
