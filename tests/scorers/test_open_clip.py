"""CLIP from a folder: what open_clip itself gives, and only safe files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptroute.core.errors import UserError
from promptroute.core.image import to_rgb
from promptroute.encoders.open_clip import OpenClip

COMMIT = "0123456789abcdef" * 2 + "01234567"
IMAGES = [Image.new("RGB", (40, 30), (200, 10, 10)), Image.new("L", (32, 32), 90), Image.new("RGBA", (9, 9))]


def test_embeddings_are_open_clips_own(tiny_clip: Path) -> None:
    import open_clip
    import torch

    clip = OpenClip(model=str(tiny_clip))
    images, texts = clip.encode_images(IMAGES), clip.encode_texts(["a red dog", "x " * 500])
    assert images.shape == (3, 16) and texts.shape == (2, 16) and images.dtype == texts.dtype == np.float32
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        theirs = network.eval().encode_image(preprocess(IMAGES[0])[None])
        words = network.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(["a red dog"]))
    np.testing.assert_allclose(images[:1], theirs, atol=1e-6)
    np.testing.assert_allclose(texts[:1], words, atol=1e-6)


def test_local_file(tiny_clip: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights.pt: give a \.safetensors file"):
        OpenClip(model="ViT-B-32", pretrained=str(tmp_path / "weights.pt")).encode_texts(["a"])


def test_the_fingerprint_follows_the_weights(tiny_clip: Path, tmp_path: Path) -> None:
    here = OpenClip(model=str(tiny_clip)).fingerprint()
    copy = shutil.copytree(tiny_clip, tmp_path / "copy")
    assert OpenClip(model=str(copy)).fingerprint() == here
    content = bytearray((copy / "open_clip_model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "open_clip_model.safetensors").write_bytes(content)
    assert OpenClip(model=str(copy)).fingerprint() != here
    with pytest.raises(
        UserError, match="a folder with weights of its own, so pretrained=openai would change nothing"
    ):
        OpenClip(model=str(copy), pretrained="openai").fingerprint()
    tagged = OpenClip(model="ViT-B-32", pretrained="openai", revision=COMMIT).weights()
    assert tagged == {"model": "ViT-B-32", "pretrained": "openai", "revision": COMMIT, "precision": "float32"}


@pytest.mark.parametrize(
    ("model", "pretrained", "revision", "message"),
    [
        ("ViT-B-32", None, None, "pretrained names no weights"),
        ("ViT-B-32", "openai", None, r"\(openai\): its revision must be a commit, not None; give 40"),
        ("ViT-B-32", "openai", "main", "not 'main'"),
        ("ViT-Nonsense", "openai", COMMIT, r"ViT-Nonsense \(openai\) can't be loaded on cpu"),
        ("ViT-B-32", "no-such-tag", COMMIT, r"can't be loaded on cpu .*check its name and tag"),
    ],
)
def test_wrong_name(model: str, pretrained: str | None, revision: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OpenClip(model=model, pretrained=pretrained, revision=revision).encode_texts(["a"])


@pytest.fixture
def hub(tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, and no network: owner/tiny at COMMIT, empty as yet; open_clip knows it as Tiny, `tag`."""
    import open_clip

    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    (tmp_path / "Tiny.json").write_text(json.dumps(config["model_cfg"]))
    open_clip.add_model_config(tmp_path / "Tiny.json")
    about = {"hf_hub": "owner/tiny/", "quick_gelu": True, **config["preprocess_cfg"]}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny", {"tag": about})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / "models--owner--tiny" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"])
def test_tag_activation(hub: Path, tiny_clip: Path, name: str) -> None:
    shutil.copy(tiny_clip / "open_clip_model.safetensors", hub / name)
    found = OpenClip(model="Tiny", pretrained="tag", revision=COMMIT).encode_images(IMAGES)
    np.testing.assert_array_equal(found, from_folder(tiny_clip, force_quick_gelu=True))
    assert np.abs(found - from_folder(tiny_clip)).max() > 1e-3, "its activation and no other"


def from_folder(folder: Path, **how: Any) -> np.ndarray:
    import open_clip
    import torch

    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", **how)
    with torch.inference_mode():
        pixels = torch.stack([preprocess(to_rgb(image)) for image in IMAGES])
        return network.eval().encode_image(pixels).numpy()


def test_pickle_is_not_read(hub: Path, tiny_clip: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), hub / "open_clip_pytorch_model.bin")
    with pytest.raises(
        UserError, match=r"the CLIP model Tiny \(tag\) can't be loaded on cpu .*hub can't be reached"
    ):
        OpenClip(model="Tiny", pretrained="tag", revision=COMMIT).encode_images(IMAGES)


def test_tags_of_papers() -> None:
    """What is fetched of them is read off open_clip's own list; OpenAI's were trained with QuickGELU."""
    import open_clip
    import yaml

    config = yaml.safe_load((Path(__file__).parents[2] / "conf" / "image_encoder" / "paper.yaml").read_text())
    known = {
        name: open_clip.get_pretrained_cfg(part["model"], part["pretrained"]) for name, part in config.items()
    }
    assert known["clip_g"]["hf_hub"] == "laion/CLIP-ViT-g-14-laion2B-s12B-b42K/"
    assert known["clip_b32"]["hf_hub"] == "timm/vit_base_patch32_clip_224.openai/"
    assert known["clip_b32"]["quick_gelu"] and not known["clip_g"].get("quick_gelu")


def test_folder_without_safetensors(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_clip / "open_clip_config.json", tmp_path)
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        OpenClip(model=str(tmp_path)).encode_texts(["a"])


def test_long_prompt_keeps_end_token(tiny_clip: Path) -> None:
    for model in (str(tiny_clip), "mini/weights/clip"):  # open_clip's own tokenizer, and one of a folder
        clip = OpenClip(model=model)
        tokenizer = clip._parts[2]
        long, short = tokenizer(["a red star " * 60, "a red star"]).tolist()
        end = short[len(tokenizer.encode("a red star")) + 1] if hasattr(tokenizer, "encode") else short[-1]
        assert long[-1] == end and end not in long[:-1] and len(long) == tokenizer.context_length
        assert clip.truncated(["a red star"]) == [0]
        (cut,) = clip.truncated(["a red star " * 60])
        assert cut is not None and cut > 60
