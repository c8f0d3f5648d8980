"""The study in memory: equal to the pipeline's; cached fits, and when they are fitted again."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import study
from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Predictor, Validation
from promptroute.predictors.mean import Mean
from tests.stages.small import run_chain, table

ROOT = study.ROOT


def test_equal_to_pipeline(small: Path) -> None:
    """Same prompts, scores, split, cost and predictions as the chain of stages gives for this seed."""
    chain = small / "chain"
    chain.mkdir()
    run_chain(chain, "predictor=knn", "seed=3", rows=table(240))
    read = study.read_table()
    split = pd.read_parquet(chain / "data" / "split.parquet").set_index("prompt_id")["split"]
    for name, index in study.sides(3).items():
        assert set(read.study.prompt_ids[index]) == set(split.index[split == name])
    from promptroute.router.router import Router

    router = Router.load(chain / "data" / "router")
    np.testing.assert_array_equal(router.cost, read.cost)
    cell = study.Cell("knn", "nima", 3)
    test = read.study.take(study.positions(cell)["test"])
    np.testing.assert_allclose(
        study.predictions(cell)["test"], router.predict(router.batch(test.batch.texts))
    )


def test_fits_are_cached(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = study.Cell("mean", "clip", 0)
    first = study.predictions(cell)
    monkeypatch.setattr(study, "fit", lambda cell: pytest.fail(f"{cell} was fitted again"))
    np.testing.assert_array_equal(study.predictions(cell)["test"], first["test"])
    assert set(first) == {"validation", "test", "held", "held_at", "seconds", "cpu_seconds"}
    np.testing.assert_array_equal(first["held"], first["validation"])
    np.testing.assert_array_equal(first["held_at"], study.sides(0)["validation"])
    others = [
        cell._replace(predictor="knn"),
        cell._replace(score="nima"),
        cell._replace(seed=1),
        cell._replace(without="DIFF"),
    ]
    assert len({study.kept_at(one) for one in [cell, *others]}) == 5
    before = study.kept_at(cell)
    scores = small / "cems" / "Model_Perf" / "aug_10k" / "clip_score_with_time_TAESD.csv"
    rows = pd.read_csv(scores)
    rows.assign(clip_score=rows["clip_score"] + 1).to_csv(scores, index=False)
    study.read_table.cache_clear()
    assert study.kept_at(cell) != before


def test_out_of_fold_predictions(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(Mean):
        def _fit(self, prompts: PromptBatch, quality: np.ndarray, validation: Validation) -> None:
            assert validation is not None
            super()._fit(prompts, quality, validation)
            self._out_of_fold = np.arange(len(quality) + len(validation[1]))[:, None] + np.zeros(4)

    build = study.build
    monkeypatch.setattr(
        study,
        "build",
        lambda config, where, kind: Greedy() if kind is Predictor else build(config, where, kind),
    )
    kept, side = study.predictions(study.Cell("mean", "nima", 0)), study.sides(0)
    np.testing.assert_array_equal(kept["held_at"], [*side["train"], *side["validation"]])
    np.testing.assert_array_equal(kept["held"][:, 0], np.arange(len(kept["held_at"])))
    np.testing.assert_array_equal(kept["validation"], kept["held"][len(side["train"]) :])


def test_left_out_set(small: Path) -> None:
    sets = study.read_table().study.sets
    whole = study.positions(study.Cell("mean", "nima", 0))
    without = study.positions(study.Cell("mean", "nima", 0, "PP"))
    for name in ("train", "validation"):
        np.testing.assert_array_equal(without[name], whole[name][sets[whole[name]] != "PP"])
    np.testing.assert_array_equal(without["test"], whole["test"][sets[whole["test"]] == "PP"])
    kept = study.predictions(study.Cell("mean", "nima", 0, "PP"))
    quality, _ = study.quality_of("nima", without["train"])
    np.testing.assert_allclose(kept["test"][0], quality[without["train"]].mean(0))


def test_code_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "promptroute" / "predictors"
    shutil.copytree(ROOT / "promptroute" / "predictors", room)
    knn, mean = study.settings("predictor=knn")["predictor"], study.settings("predictor=mean")["predictor"]
    monkeypatch.setattr(study, "ROOT", tmp_path)
    before = study.code_of(knn), study.code_of(mean)

    def change(module: str, old: str, new: str) -> tuple[str, str]:
        text = (room / module).read_text()
        assert old in text
        (room / module).write_text(text.replace(old, new, 1))
        return study.code_of(knn), study.code_of(mean)

    assert change("knn.py", "ROWS = 512", "# a remark\nROWS = 512") == before
    assert change("knn.py", '"""Quality of', '"""The quality of') == before
    assert change("gbm.py", "import numpy as np", "import numpy as np\nX = 1") == before
    own = change("knn.py", "ROWS = 512", "ROWS = 513")
    assert own[0] != before[0] and own[1] == before[1]
    shared = change("tfidf.py", "import numpy as np", "import numpy as np\nX = 1")  # knn → features → tfidf
    assert shared[0] != own[0] and shared[1] == before[1]


def test_code_of_ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "promptroute" / "predictors"
    shutil.copytree(ROOT / "promptroute" / "predictors", room)
    section = study.settings("predictor=ensemble")["predictor"]
    monkeypatch.setattr(study, "ROOT", tmp_path)
    before = study.code_of(section)
    (room / "gbm.py").write_text((room / "gbm.py").read_text() + "\nX = 1\n")
    assert study.code_of(section) != before


def test_with_seed() -> None:
    section = {"seed": 0, "threads": 2, "features": {"seed": 0, "words": True}, "alphas": [1, 2]}
    expected = {"seed": 7, "threads": 1, "features": {"seed": 7, "words": True}, "alphas": [1, 2]}
    assert study.with_seed(section, 7) == expected


def test_seeds_of_predictors() -> None:
    """`with_seed` sets every seed of a section: right only as long as conf/ ties them all to one."""
    for name in study.options():
        assert study.with_seed(study.settings(f"predictor={name}")["predictor"], 5) == study.with_seed(
            study.settings(f"predictor={name}", "seed=5")["predictor"], 5
        )
        section = study.settings(f"predictor={name}", "seed=5")["predictor"]
        assert _seeds(section) <= {5}


def _seeds(section: object) -> set[int]:
    if not isinstance(section, dict):
        return set()
    own = {section["seed"]} if "seed" in section else set()
    return own.union(*(_seeds(part) for part in section.values()))


def test_default_predictor() -> None:
    target = study.settings()["predictor"]["_target_"]
    assert study.settings(f"predictor={study.default_predictor()}")["predictor"]["_target_"] == target


@pytest.mark.parametrize("name", study.VARIANTS)
def test_variants(name: str) -> None:
    """A variant composes, and is measured with the text encoder that its overrides give it."""
    params = study.settings(*study.overrides_of(name))
    assert params["text_encoder"] == study.settings(f"text_encoder={study.text_of(name)}")["text_encoder"]
    assert params["predictor"].get("points") == (4000 if name.endswith("4000") else None)
