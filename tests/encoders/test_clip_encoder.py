"""CLIP's text side, on a tiny model."""

from pathlib import Path

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.encoders.base import encode_all
from promptroute.encoders.clip_text import ClipTextEncoder

TEXTS = ["red", "a red car, blue", "word " * 200, "z"]


def test_it_is_the_state_of_the_end_of_text(tiny_clip: Path) -> None:
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    rows = ClipTextEncoder(str(tiny_clip)).encode(["a red car"])
    tokens = CLIPTokenizer.from_pretrained(tiny_clip)("a red car")["input_ids"]
    assert len(tokens) == 1 + 1 + 1 + 3 + 1  # start, a, red (merged), c-a-r, end
    with torch.inference_mode():
        states = CLIPTextModel.from_pretrained(tiny_clip)(torch.tensor([tokens])).last_hidden_state
    np.testing.assert_allclose(rows[0], states[0, -1].numpy(), atol=1e-6)
    assert rows.dtype == np.float32


def test_a_row_does_not_depend_on_its_batch_nor_on_what_is_cut_off(tiny_clip: Path) -> None:
    encoder = ClipTextEncoder(str(tiny_clip))
    together = encode_all(encoder, TEXTS, 4, progress=False)
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], row, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["word " * 300])[0], together[2], atol=1e-5)


def test_a_whole_clip_model_gives_its_text_side(whole_clip: Path, tmp_path: Path) -> None:
    from transformers import CLIPTextModel, CLIPTokenizer

    whole = ClipTextEncoder(str(whole_clip))
    CLIPTextModel.from_pretrained(whole_clip).save_pretrained(tmp_path / "text")
    CLIPTokenizer.from_pretrained(whole_clip).save_pretrained(tmp_path / "text")
    text = ClipTextEncoder(str(tmp_path / "text"))
    np.testing.assert_array_equal(whole.encode(TEXTS), text.encode(TEXTS))
    assert whole.fingerprint == text.fingerprint
    assert whole.description["dim"] == 32 and whole.description["max_length"] == 77


def test_missing_weights_are_an_error_not_random(tiny_clip: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_clip, tmp_path / "torn")
    tensors = load_file(tmp_path / "torn" / "model.safetensors")
    del tensors[next(name for name in tensors if "final_layer_norm.weight" in name)]
    save_file(tensors, tmp_path / "torn" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack .*final_layer_norm"):
        ClipTextEncoder(str(tmp_path / "torn")).encode(["a"])
    with pytest.raises(UserError, match=r"absent.*text_encoder=minilm"):
        ClipTextEncoder(str(tmp_path / "absent")).encode(["a"])


def test_a_missing_tokenizer_is_an_error_not_one_token_for_every_word(
    tiny_clip: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(tiny_clip, tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(UserError, match="its tokenizer has 2 tokens, the model 80"):
        ClipTextEncoder(str(tmp_path / "clip")).encode(["a"])
