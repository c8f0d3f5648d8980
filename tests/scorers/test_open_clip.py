"""CLIP from a folder: what open_clip itself gives, and only safe files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.records import BadInput
from stages.scorers import OpenClip

PICTURES = [
    Image.new("RGB", (40, 30), (200, 10, 10)),
    Image.new("L", (32, 32), 90),
    Image.new("RGBA", (9, 9)),
]


def test_embeddings_are_open_clips_own(tiny_clip: Path) -> None:
    import open_clip
    import torch

    clip = OpenClip(str(tiny_clip))
    images, texts = clip.encode_images(PICTURES), clip.encode_texts(["a red dog", "x " * 500])
    assert images.shape == (3, 16) and texts.shape == (2, 16) and images.dtype == texts.dtype == np.float32
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        theirs = network.eval().encode_image(preprocess(PICTURES[0])[None])
        words = network.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(["a red dog"]))
    np.testing.assert_allclose(images[:1], theirs, atol=1e-6)
    np.testing.assert_allclose(texts[:1], words, atol=1e-6)


def test_a_named_architecture_takes_a_local_file(tiny_clip: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), tmp_path / "weights.pt")
    with pytest.raises(BadInput, match=r"weights.pt: give a \.safetensors file"):
        OpenClip("ViT-B-32", str(tmp_path / "weights.pt")).encode_texts(["a"])


def test_the_fingerprint_follows_the_weights(tiny_clip: Path, tmp_path: Path) -> None:
    here = OpenClip(str(tiny_clip)).fingerprint_parts
    copy = shutil.copytree(tiny_clip, tmp_path / "copy")
    assert OpenClip(str(copy)).fingerprint_parts == here
    content = bytearray((copy / "open_clip_model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "open_clip_model.safetensors").write_bytes(content)
    assert OpenClip(str(copy)).fingerprint_parts != here
    assert OpenClip("ViT-B-32", "openai").fingerprint_parts["weights"] == {
        "model": "ViT-B-32",
        "pretrained": "openai",
    }


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-32", None, "pretrained names no weights"),
        ("ViT-Nonsense", "openai", r"ViT-Nonsense \(openai\) can't be loaded on cpu"),
        ("ViT-B-32", "no-such-tag", r"can't be loaded on cpu .*check its name and tag"),
    ],
)
def test_a_wrong_name_is_one_clear_error(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        OpenClip(model, pretrained).encode_texts(["a"])


def test_a_folder_without_safetensors_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_clip / "open_clip_config.json", tmp_path)
    with pytest.raises(BadInput, match=r"holds no \.safetensors file"):
        OpenClip(str(tmp_path)).encode_texts(["a"])
