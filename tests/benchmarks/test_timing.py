"""The benchmarks of small computations: both ways agree, and the tables show them."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import bootstrap, features, kernel_size
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.targets import split_level


def test_features(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a red star", "a red ring left of a star", "blue blue ring", "two rings and a star"]
    monkeypatch.setattr(features, "read_texts", lambda: texts)
    rows = pd.DataFrame(features.measure(3, rounds=2))
    assert rows["kind"].tolist() == [kind for kind in features.KINDS for _ in range(2)]
    assert rows["baseline_s"].isna().tolist() == [False] * 4 + [True] * 2
    rows["prompts"], rows["ours_s"], rows["baseline_s"] = 2, 0.002, [0.004, 0.008] * 2 + [np.nan] * 2
    lines = features.table(rows).splitlines()
    assert lines[-3].startswith("| words | 3 | 1 | 3.0 × (2.0 to 4.0, 2 rounds) | ")
    assert lines[-1] == "| statistics | – | 1 | – | – |"


def test_features_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "TOLERANCE", -1)
    with pytest.raises(AssertionError, match="words: the two ways differ by 0"):
        features.measure(1, rounds=1)


def test_bootstrap() -> None:
    rows = pd.DataFrame(bootstrap.measure(30, rounds=2))
    assert rows["figures"].tolist() == ["a choice", "the frontier"] * 2
    rows["loop_s"], rows["ours_s"] = [6.0, np.nan, 2.0, np.nan], 2.0
    lines = bootstrap.table(rows).splitlines()
    assert lines[0].startswith("30 resamples of 800 prompts.")
    assert lines[-2].startswith("| a choice | 4 | 2 | 2.0 × (1.0 to 3.0, 2 rounds) | ")
    assert lines[-1] == "| the frontier | – | 2 | – | – |"


def test_bootstrap_that_differs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "TOLERANCE", -1)
    with pytest.raises(AssertionError, match="quality: the two ways differ by"):
        bootstrap.measure(10, rounds=1)


def test_kernel_size() -> None:
    """Fits of both kinds, and their table; no figure of time is asserted."""
    rows = [
        *kernel_size.measure([90], threads=1, settings={}),
        *kernel_size.measure([90], threads=1, settings={"points": 30}),
    ]
    assert [(row["prompts"], row["compared"]) for row in rows] == [(90, 90), (90, 30)]
    lines = kernel_size.table(pd.DataFrame(rows)).splitlines()
    assert lines[-2].startswith("| 90 | 90 | ") and lines[-1].startswith("| 90 | 30 | ")


def test_made_up_prompts_can_be_learned() -> None:
    prompts, quality = kernel_size.simulate(400)
    assert 10 < np.median([len(text.split()) for text in prompts.texts]) < 26
    model = Kernel(encoder="layers").fit(prompts.take(np.arange(300)), quality[:300])
    truth, found = (
        split_level(values)[0] for values in (quality[300:], model.predict(prompts.take(np.arange(300, 400))))
    )
    assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.2
