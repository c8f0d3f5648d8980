"""The training's own DVC project, mini/pipeline: the main pipeline's commands do not see it, and it runs by its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mini.captions import PROMPT_SETS
from tests.e2e.conftest import Run, git_clone, runner

pytestmark = pytest.mark.slow

MAIN = {
    "stages": {
        "size": {
            "cmd": "python -c \"import pathlib; pathlib.Path('size').write_text('1')\"",
            "deps": ["mini/weights", "mini/prompts"],
            "outs": ["size"],
        }
    }
}
"""In place of the main pipeline: a stage that depends on what the training makes."""


def shorten(section: dict[str, object]) -> dict[str, object]:
    """Reduce a section's settings to the least that runs."""
    least = {
        "free": 8,
        "arranged": 8,
        "multiple": 8,
        "steps": 2,
        "batch": 4,
        "examples": 8,
        "n": 2,
        "prompts": 1,
        "train": 24,
        "validation": 12,
        "held_out": 12,
    }
    return {
        name: shorten(value) if isinstance(value, dict) else least.get(name, value)
        for name, value in section.items()
    }


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with the smallest of trainings."""
    git_clone(tmp_path)
    path = tmp_path / "mini" / "pipeline" / "params.yaml"
    params = shorten(yaml.safe_load(path.read_text()))
    params["measure"]["retrieval"] = 100  # type: ignore[index]
    params["feedback_generated"] |= {"train": 1, "validation": 1, "workers": 1}  # type: ignore[operator]
    path.write_text(yaml.safe_dump(params))
    return tmp_path


@pytest.fixture
def run(clone: Path) -> Run:
    """Run a command in the clone."""
    return runner(clone, clone / "no-cems")


@pytest.fixture
def commit(run: Run) -> Callable[[], None]:
    """Commit all files of the clone."""

    def commit() -> None:
        run("git", "add", "--all")
        run("git", "commit", "--quiet", "--allow-empty", "--message=next")

    return commit


def test_main_stages(run: Run) -> None:
    listed = run("dvc", "stage", "list", "--all", "--name-only").stdout.split()
    assert listed and not [name for name in listed if "mini/" in name or "train_clip" in name]
    assert "mini/pipeline" not in run("dvc", "status").stdout


def test_isolation(clone: Path, run: Run, commit: Callable[[], None]) -> None:
    (clone / "dvc.yaml").write_text(yaml.safe_dump(MAIN))
    (clone / "dvc.lock").unlink()
    with (clone / ".gitignore").open("a") as lines:
        lines.write("/size\n")
    assert "train" not in run("dvc", "repro", "--all-pipelines").stdout
    assert json.loads(run("dvc", "status", "--json").stdout) == {}
    commit()
    run("dvc", "commit", "--force")
    run("dvc", "exp", "save", "--name=saved")
    run("dvc", "exp", "run", "--no-hydra", "--name=ran")
    assert run("git", "status", "--short").stdout == ""
    (clone / "mini" / "weights" / "new").write_text("changed")
    assert set(json.loads(run("dvc", "status", "--json").stdout)) == {"size"}, "still a dependency"


def test_training(clone: Path, run: Run) -> None:
    before = (clone / "mini" / "weights" / "clip" / "open_clip_model.safetensors").read_bytes()
    said = run("dvc", "--cd", "mini/pipeline", "repro").stdout
    stages = yaml.safe_load((clone / "mini" / "pipeline" / "dvc.yaml").read_text())["stages"]
    assert all(f"Running stage '{name}'" in said for name in stages)
    packed = clone / "mini"
    assert (packed / "weights" / "clip" / "open_clip_model.safetensors").read_bytes() != before
    assert {path.name for path in (packed / "weights").iterdir()} == {
        "clip", "diffusion", "feedback", "masked", "nima", "student", "tiny",
    }  # fmt: skip
    assert {path.stem for path in (packed / "prompts").iterdir()} == set(PROMPT_SETS)
    assert set(json.loads((packed / "report.json").read_text())["models"]) == {
        "diffusion", "masked", "student", "tiny",
    }  # fmt: skip
    changed = {line[3:].split("/")[1] for line in run("git", "status", "--short").stdout.splitlines()}
    assert changed <= {"weights", "prompts", "report.json", "report.md", "feedback_report.json",
                       "feedback_report.md", "pipeline"}  # fmt: skip
    assert "up to date" in run("dvc", "--cd", "mini/pipeline", "repro", "scenes").stdout
    again = run("dvc", "--cd", "mini/pipeline", "repro").stdout
    assert "Running stage 'clip'" not in again and "Running stage 'measure'" not in again
