"""`promptroute plan` says what a study takes before an image is generated."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

from promptroute.cli.plan import plan, study_images
from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.core.rows import Prompt
from promptroute.generators.base import build_generator
from promptroute.io.images import ImageCache
from promptroute.io.tables import write_table
from tests.generators.tiny import save
from tests.stages.small import params

TINY = {"_target_": "promptroute.generators.diffusers.model.DiffusersModel", "model": "sd", "steps": 1}
PROFILE = {"seconds": 3600.0, "memory_gb": 1.0}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three prompts, three seeds, a tiny model that takes an hour an image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    save("sd", tmp_path / "sd")
    params(tmp_path, "published=none")
    study({"tiny": {"label": "Tiny", "generator": TINY, "profile": PROFILE}})
    prompts = pd.DataFrame(
        {"prompt_id": ["a", "b", "c"], "prompt": ["one", "two", "three"], "set": "S", "count": 1}
    )
    write_table("data/prompts.parquet", prompts, Prompt)
    return tmp_path


def study(models: dict[str, Any], **changes: Any) -> None:
    """Write params.yaml again, with other models."""
    given = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**given, "models": models, **changes}))


def shown(*arguments: str) -> list[list[str]]:
    """Run the command; return the cells of each line."""
    app = typer.Typer()
    app.command()(plan)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done
    return [line.split() for line in done.stdout.splitlines()]


class TestPlan:
    def test_a_study(self, project: Path) -> None:
        _, tiny, every = shown("--cards", "2")
        # 9 images of an hour; 1 GB for 3,600 s at $0.0000166667 each.
        assert tiny == ["Tiny", "9", "0", "9.00", "4.50", "<0.01", "0.54"]
        assert every == ["all", *tiny[1:]]

    def test_what_the_cache_has(self, project: Path) -> None:
        cache = ImageCache.of(build_generator(TINY, "tiny", "cpu").fingerprint())
        cache.add([Image("x", "two", "other", seed, "ok", None, 1, 1, b"", 0) for seed in (0, 2, 9)])
        assert shown()[1] == ["Tiny", "9", "2", "7.00", "<0.01", "0.42"]

    def test_more_prompts(self, project: Path) -> None:
        _, tiny, _ = shown("--prompts", "50000")
        assert tiny[:4] == ["Tiny", "150,000", "0", "150,000.00"] and tiny[-1] == "9,000.02"

    def test_what_is_not_known(self, project: Path) -> None:
        study({"tiny": {"generator": TINY, "profile": {"memory_gb": 1.0}}})
        _, tiny, _, note = shown()
        assert tiny == ["tiny", "9", "0", "–", "<0.01", "–"]
        assert "give models.NAME.profile.seconds" in " ".join(note)

    def test_no_prompts(self, project: Path) -> None:
        Path("data/prompts.parquet").unlink()
        assert study_images(4)[0][1].count == 12
        given = yaml.safe_load(Path("params.yaml").read_text())["prompts"]
        study({}, prompts={**given, "n": None})
        with pytest.raises(UserError, match=r"prompts.n is null; sample the prompts, or give --prompts"):
            study_images(None)

    def test_nothing_to_generate(self, project: Path) -> None:
        params(project)  # scores from a published table
        assert " ".join(shown()[0]) == "plan: no model generates images in this study"
