"""A small study in an empty folder: a tiny model, a tiny CLIP, a random NIMA, and a few prompts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from promptroute.core.rows import Prompt
from promptroute.io.tables import write_table
from tests.generators.tiny import save
from tests.scorers.conftest import make_clip

TEXTS = ("a dog", "a red cat", "x", "two hats", "a hill")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the models sd and amused, the CLIP `clip`, and nima.safetensors."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("weights")
    for name in ("sd", "amused"):
        save(name, folder / name)
    make_clip(folder / "clip")
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv1_100", pretrained=False, num_classes=10, bn_eps=1e-3)
    save_file(network.half().state_dict(), folder / "nima.safetensors")
    return folder


def write_prompts(folder: Path, texts: tuple[str, ...] = TEXTS) -> None:
    ids = [f"P{number:07d}" for number in range(1, len(texts) + 1)]
    rows = pd.DataFrame({"prompt_id": ids, "prompt": texts, "set": "T", "count": 1})
    write_table(folder / "data" / "prompts.parquet", rows, Prompt)


@pytest.fixture
def study(tmp_path: Path, weights: Path) -> Callable[..., Path]:
    """Lay out the study; called again, change it. Returns its folder."""

    def make(texts: tuple[str, ...] = TEXTS, **generation: Any) -> Path:
        write_prompts(tmp_path, texts)
        target = "promptroute.generators.diffusers.model.DiffusersModel"
        models = {
            name: {"label": name, "generator": {"_target_": target, "model": str(weights / name), "steps": 2, "guidance": 4.0, "batch_size": 2}}
            for name in ("sd", "amused")
        }  # fmt: skip
        nima = {
            "_target_": "promptroute.scorers.nima.Nima",
            "checkpoint": str(weights / "nima.safetensors"),
            "batch_size": 4,
        }
        scorers = {
            "nima": nima,
            "clip": {"_target_": "promptroute.scorers.clip_score.ClipScore", "encoder": "tiny"},
            "consistency": {"_target_": "promptroute.scorers.consistency.Consistency", "encoder": "tiny"},
        }
        params = {
            "models": models,
            "generation": {"seeds": [0, 1, 2], "shard_prompts": 2, "max_failed": 0.0, **generation},
            "compute": {"device": "cpu", "threads": 1},
            "image_encoder": {"tiny": {"_target_": "promptroute.encoders.open_clip.OpenClip", "model": str(weights / "clip"), "batch_size": 4}},
            "scorers": scorers,
        }  # fmt: skip
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        return tmp_path

    return make
