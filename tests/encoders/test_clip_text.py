"""CLIP's text side, on a tiny model."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.encoders.base import encode_all
from promptroute.encoders.clip_text import ClipTextEncoder

TEXTS = ["red", "a red car, blue", "word " * 200, "z"]


def test_end_of_text(tiny_clip: Path) -> None:
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    rows = ClipTextEncoder(model=str(tiny_clip)).encode(["a red car"])
    tokens = CLIPTokenizer.from_pretrained(tiny_clip)("a red car")["input_ids"]
    assert len(tokens) == 1 + 1 + 1 + 3 + 1  # start, a, red (merged), c-a-r, end
    with torch.inference_mode():
        states = CLIPTextModel.from_pretrained(tiny_clip)(torch.tensor([tokens])).last_hidden_state
    np.testing.assert_allclose(rows[0], states[0, -1].numpy(), atol=1e-6)
    assert rows.dtype == np.float32


def test_rows_are_independent(tiny_clip: Path) -> None:
    encoder = ClipTextEncoder(model=str(tiny_clip))
    together = encode_all(encoder, TEXTS, 4, progress=False)
    for row, text in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], row, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["word " * 300])[0], together[2], atol=1e-5)


def test_whole_clip(whole_clip: Path, tmp_path: Path) -> None:
    from transformers import CLIPTextModel, CLIPTokenizer

    whole = ClipTextEncoder(model=str(whole_clip))
    CLIPTextModel.from_pretrained(whole_clip).save_pretrained(tmp_path / "text")
    CLIPTokenizer.from_pretrained(whole_clip).save_pretrained(tmp_path / "text")
    text = ClipTextEncoder(model=str(tmp_path / "text"))
    np.testing.assert_array_equal(whole.encode(TEXTS), text.encode(TEXTS))
    assert whole.fingerprint() == text.fingerprint()
    assert whole.description["dim"] == 32 and whole.description["max_length"] == 77


def test_missing_weights(tiny_clip: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_clip, tmp_path / "corrupt")
    tensors = load_file(tmp_path / "corrupt" / "model.safetensors")
    del tensors[next(name for name in tensors if "final_layer_norm.weight" in name)]
    save_file(tensors, tmp_path / "corrupt" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack .*final_layer_norm"):
        ClipTextEncoder(model=str(tmp_path / "corrupt")).encode(["a"])
    with pytest.raises(UserError, match=r"absent.*give the path of a folder"):
        ClipTextEncoder(model=str(tmp_path / "absent")).encode(["a"])


def test_missing_tokenizer(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(UserError, match="its tokenizer has 2 tokens, the model 80"):
        ClipTextEncoder(model=str(tmp_path / "clip")).encode(["a"])
