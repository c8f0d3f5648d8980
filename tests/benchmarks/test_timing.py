"""The benchmarks of small computations: both ways agree, and the tables show them."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import bootstrap, features


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
