"""What a study's settings read is found when it is composed."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptroute.runtime.uses import make_absolute, uses

ROOT = Path(__file__).parents[2]
Compose = Callable[..., dict[str, Any]]


def test_default_study(compose: Compose) -> None:
    found = compose(config="config")["uses"]
    student = found["models"]["mini-student"]
    assert (student["weights"], student["parts"]) == ("mini/weights/diffusion", "mini/weights/student")
    assert found["models"]["mini-unet"]["parts"] == "data/none/parts"
    assert found["scorers"]["nima"] == {
        "code": "promptroute/scorers/nima.py",
        "reads": "mini/weights/nima/model.safetensors",
    }
    assert found["scorers"]["clip"]["reads"] == "data/embeddings/clip"
    assert found["image_encoder"] == {"clip": "mini/weights/clip"}
    assert found["prompts"] == {"mini": "mini/prompts"}
    assert (found["recovery"], found["trip"], found["recovered"]) == ({}, {}, "data/none/figures")
    places = [place for part in found["models"].values() for place in part.values()]
    assert all(
        (ROOT / place).exists() for place in (*places, found["predictor"], *found["text_encoder"].values())
    )


def test_recovery(compose: Compose) -> None:
    found = compose("recovery=mini", config="config")["uses"]
    assert (
        found["recovery"] == {"prompts": "mini/phrases.txt"} and found["recovered"] == "metrics/recovery.json"
    )
    assert found["trip"] == found["models"]


def test_hub_models(compose: Compose) -> None:
    found = compose("experiment=paper", config="config")["uses"]
    assert found["models"]["taesd-sd21"]["weights"] == "data/none/weights"
    assert set(found["prompts"]) == {"ms_coco", "ln_coco", "drawbench", "partiprompts", "diffusiondb"}


def test_published_table(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTROUTE_CEMS", str(tmp_path))
    found = compose("experiment=published", config="config")["uses"]
    assert found["published"]["nima-amused"] == {
        "scorer": "nima",
        "model": "amused",
        "table": f"{tmp_path}/Model_Perf/aug_10k/nima_score_with_time_amused.csv",
    }
    monkeypatch.delenv("PROMPTROUTE_CEMS")
    table = compose("experiment=published", config="config")["uses"]["published"]["nima-amused"]["table"]
    assert table.startswith("https://")


def test_lora_and_other_weights(tmp_path: Path) -> None:
    for name in ("base/model.safetensors", "lora.safetensors", "vae/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    generator = {
        "_target_": "my.Model",
        "model": "./base",
        "components": {"vae": {"class": "AutoencoderTiny", "model": "./vae"}},
        "lora": {"model": ".", "weight_name": "lora.safetensors"},
    }
    found = uses({"models": {"mine": {"generator": generator}}}, tmp_path)["models"]["mine"]
    assert found == {"weights": "base", "parts": "."}


def test_untracked_files_are_absolute(tmp_path: Path) -> None:
    import subprocess

    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name in ("known.csv", "new.csv"):
        (tmp_path / name).write_text("prompt\n")
    subprocess.run(["git", "add", "known.csv"], cwd=tmp_path, check=True)
    section = {
        "a": {"path": "known.csv"},
        "b": {"path": "new.csv", "set": "OWN"},
        "c": {"path": "absent.csv"},
    }
    make_absolute(section, tmp_path)
    assert section == {
        "a": {"path": "known.csv"},
        "b": {"path": str(tmp_path / "new.csv"), "set": "OWN"},
        "c": {"path": "absent.csv"},
    }


def test_folder_with_an_untracked_file_is_absolute(tmp_path: Path) -> None:
    import subprocess

    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    for name in ("whole/a.json", "whole/.DS_Store", "part/a.json", "part/deep/weights.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    subprocess.run(["git", "add", "whole/a.json", "part/a.json"], cwd=tmp_path, check=True)
    section = {"a": {"model": "./whole"}, "b": {"model": "./part"}}
    make_absolute(section, tmp_path)
    assert section == {"a": {"model": "./whole"}, "b": {"model": str(tmp_path / "part")}}


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("promptroute.scorers.nima.Nima", "promptroute/scorers/nima.py"),
        ("promptroute.feedback.scorer.Rahf", "promptroute/feedback/scorer.py"),
        ("promptroute.generators.diffusers.model.DiffusersModel", "promptroute/generators/diffusers"),
    ],
)
def test_code_in_a_checkout_called_promptroute(
    target: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git clone` names the folder as the package: the path begins at the package nevertheless."""
    found = importlib.util.find_spec(".".join(target.split(".")[:3]))
    assert found and found.origin
    inside = Path(found.origin).relative_to(ROOT)
    monkeypatch.setattr(found, "origin", str(tmp_path / "promptroute" / inside))
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: found)
    assert uses({"scorers": {"mine": {"_target_": target}}}, tmp_path)["scorers"]["mine"]["code"] == path
