"""Differences, level, and folds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promptroute.predictors.targets import Targets, split_level, text_folds


def test_split_level() -> None:
    differences, level = split_level(np.array([[1.0, 2.0, 6.0]]))
    assert differences.tolist() == [[-2, -1, 3]] and level.tolist() == [[3]]


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_round_trip(seed: int, n: int, m: int) -> None:
    quality = np.random.default_rng(seed).normal(5, 2, (n, m))
    targets = Targets.fit(quality)
    encoded = targets.encode(quality)
    assert encoded.shape == (n, m + 1)
    np.testing.assert_allclose(encoded.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(targets.decode(encoded), quality, atol=1e-9)


def test_shared_unit() -> None:
    quality = np.random.default_rng(0).normal(0, [1.0, 10.0, 1.0], (200, 3))
    targets = Targets.fit(quality)
    assert len(set(targets.scale[:3])) == 1
    encoded = targets.encode(quality)
    np.testing.assert_allclose((encoded[:, :3] ** 2).mean(), 1)
    np.testing.assert_allclose((encoded[:, 3] ** 2).mean(), 1)


def test_text_folds() -> None:
    texts = [f"text {i % 23}" for i in range(100)]
    fold = text_folds(texts, 5, 0)
    assert all(len({f for t, f in zip(texts, fold, strict=True) if t == text}) == 1 for text in texts)
    per_fold = [len({t for t, f in zip(texts, fold, strict=True) if f == k}) for k in range(5)]
    assert sorted(per_fold) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(text_folds(texts, 5, 0), fold)
    assert (text_folds(texts, 5, 1) != fold).any()
    # The deal belongs to the texts, not to their rows.
    np.testing.assert_array_equal(text_folds(texts[::-1], 5, 0), fold[::-1])
    assert text_folds(["a", "a"], 5, 0).tolist() == [0, 0]
