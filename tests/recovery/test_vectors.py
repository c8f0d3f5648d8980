"""Cosines, neighbours, ranks, groups and folds of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.recovery import cosine
from promptroute.recovery.vectors import folds, near_groups, nearest, ranks, unit


class TestCosine:
    def test_by_hand(self) -> None:
        found = cosine(
            np.array([[3, 4], [1, 0], [1, 1], [0, 0]]), np.array([[3, 4], [0, 2], [-2, -2], [1, 2]])
        )
        np.testing.assert_allclose(found, [1, 0, -1, 0], atol=1e-12)

    def test_refuses(self) -> None:
        with pytest.raises(UserError, match=r"\(2, 3\) and \(2, 4\); expected two arrays of one shape"):
            cosine(np.ones((2, 3)), np.ones((2, 4)))
        with pytest.raises(UserError, match="row 1 holds a value that is not finite"):
            cosine(np.ones((2, 2)), np.array([[1, 2], [np.nan, 1]]))


@given(st.integers(1, 700), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_nearest_is_a_sort(m: int, n: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    bank, queries = unit(random.normal(size=(m, 4))), unit(random.normal(size=(n, 4)))
    found, cosines = nearest(queries, bank, k, block=16)
    expected = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_allclose(cosines, np.take_along_axis(queries @ bank.T, expected, axis=1), atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(queries @ bank.T, found, axis=1), cosines, atol=1e-6)
    assert all(len(set(row)) == min(k, m) for row in found.tolist())


def test_ranks_by_hand() -> None:
    bank = np.eye(3, dtype=np.float32)
    predicted = unit(np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1], [1, 1, 1]]))
    assert ranks(predicted, bank, np.array([0, 1, 2, 0])).tolist() == [1, 2, 3, 3], "a tie gains nothing"


def test_near_groups_are_chained() -> None:
    angles = np.radians([0, 90, 10, 20, 95, 180])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert near_groups(rows, np.cos(np.radians(11)), block=2).tolist() == [0, 1, 0, 0, 1, 2]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_keep_groups(groups: list[int], count: int, seed: int) -> None:
    if len(set(groups)) < count:
        with pytest.raises(UserError, match="can't be shared out"):
            folds(np.array(groups), count, seed)
        return
    fold = folds(np.array(groups), count, seed)
    assert set(fold.tolist()) == set(range(count))
    assert len({(group, number) for group, number in zip(groups, fold.tolist(), strict=True)}) == len(
        set(groups)
    )
