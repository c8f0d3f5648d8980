"""A small study that the benchmarks run on, in place of the published one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import budget, guarantee, routers, scores, search, shift, study
from tests.stages.small import table, write_published


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder where a benchmark runs; results go to its results/, and what is kept to its cache/."""
    write_published(tmp_path / "cems", table(240))
    monkeypatch.setenv("PROMPTROUTE_CEMS", str(tmp_path / "cems"))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    # tf-idf for the predictors; for novelty, vectors that tell the prompt sets apart.
    monkeypatch.setattr(study, "text_of", lambda predictor: "none")
    for module in (routers, shift, guarantee, budget, scores, search):
        monkeypatch.setattr(module, "CSV", tmp_path / "results" / f"{module.__name__}.csv")
    monkeypatch.setattr(routers, "PAIRED", tmp_path / "results" / "paired.csv")
    caches = (study.settings, study.read_table, study.with_text, study.sides, study._decides)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `with_text("minilm")` embeddings in which each prompt set has a direction of its own."""
    from dataclasses import replace

    real = study.with_text

    def with_text(option: str) -> study.StudyData:
        found = real("none")
        _, which = np.unique(found.sets, return_inverse=True)
        noise = np.random.default_rng(0).normal(0, 0.1, (len(found), 3))
        rows = (np.eye(3)[which] + noise).astype(np.float32)
        return (
            replace(found, batch=replace(found.batch, embeddings={"minilm": rows}))
            if option == "minilm"
            else found
        )

    monkeypatch.setattr(study, "with_text", with_text)
