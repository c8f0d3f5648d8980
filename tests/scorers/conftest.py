"""What the scorers' tests share: the reference data, and a CLIP small enough to make in a test."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "nima"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of NIMA's reference data."""
    if not GOLDEN.is_dir():
        pytest.skip(f"NIMA's reference data is not at {GOLDEN}")
    return GOLDEN


def make_clip(folder: Path) -> Path:
    """Save a random CLIP (16-dimensional, 32 × 32 pixels) in open_clip's folder layout."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = open_clip.CLIP(**config)
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    shades = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": shades}))
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP."""
    return make_clip(tmp_path_factory.mktemp("clip") / "model")
