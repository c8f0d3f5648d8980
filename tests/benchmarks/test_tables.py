"""The benchmark of public tables, on a table whose answers are known."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import study, tables
from promptroute.core.errors import UserError

MODELS = ("a", "b", "c", "d")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A table of three sets: each of the first three models is best by far in its own, the last never."""
    random = np.random.default_rng(0)
    texts = [f"{word} number {i} of {i % 7}" for i in range(24) for word in ("red", "two", "text")]
    quality = np.array([[5.0 * (k == i % 3) for k in range(4)] for i in range(len(texts))])
    quality += random.normal(0, 0.1, quality.shape)
    ids = [f"p{i}" for i in range(len(texts))]
    pd.DataFrame({"prompt_id": ids, "set": [f"s{i % 3}" for i in range(len(texts))], "prompt": texts}).to_csv(
        tmp_path / "toy.prompts.csv", index=False
    )
    pd.DataFrame(
        {"prompt_id": np.repeat(ids, 4), "model": MODELS * len(ids), "score": quality.ravel()}
    ).to_csv(tmp_path / "toy.scores.csv", index=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "text_of", lambda predictor: "none")
    monkeypatch.setattr(tables, "WANTED", {"toy": ("score",)})
    monkeypatch.setattr(tables, "CSV", tmp_path / "results" / "tables.csv")
    caches = (study.settings, tables.read, tables.batch)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


def test_figures(folder: Path) -> None:
    asked = ["--folder", str(folder), "--tables", "toy", "--predictors", "mean,knn", "--seeds", "0,1"]
    printed = tables.main(asked)
    found = pd.read_csv(tables.CSV).set_index(["predictor", "figure"])
    share = found["estimate"]
    assert share["knn", "before"] > 0.8 and share["knn", "set"] > 0.95  # the set is known, the text is read
    assert share["knn", "two"] >= share["knn", "before"] > share["mean", "before"]
    assert abs(share["mean", "before"]) < 0.1  # the best single model, but for the prompts held out of its fit
    assert share["mean", "two"] == pytest.approx(share["mean", "pair"], abs=0.1)
    assert ((found["low"] <= found["estimate"]) & (found["estimate"] <= found["high"])).all()
    assert "| knn |" in printed and tables.main(["--table"]) == printed
    assert tables.main(asked) == printed  # from cached fits


def test_pair_by_hand() -> None:
    quality = np.array([[3.0, 0, 1], [3, 1, 2], [0, 4, 5]])
    assert tables.pair_of(quality).tolist() == [0, 2]
    assert tables.kept_of(quality, np.array([[0, 1], [1, 2], [0, 1]])).tolist() == [3, 2, 4]


def test_no_folder() -> None:
    with pytest.raises(UserError, match="name the tables' folder with --folder"):
        tables.main([])
