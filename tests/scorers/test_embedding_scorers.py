"""Scores from stored embeddings, by hand and against the slow way."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.scorers.base import EmbeddingBatch, PromptGroupBatch
from promptroute.scorers.clip_score import ClipScore, clip_score
from promptroute.scorers.consistency import Consistency, semantic_consistency


def test_the_clip_score_by_hand() -> None:
    images = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [-2.0, 0.0]])
    texts = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # cosines 3/5, 1, 0, -1
    np.testing.assert_allclose(clip_score(images, texts), [60, 100, 0, 0])
    found = ClipScore(encoder="any").score(EmbeddingBatch(images[[1, 0]], texts[[0, 0]]))
    np.testing.assert_allclose(found["score"], [100, 60])


def test_consistency_by_hand() -> None:
    # Prompt 0: cosines 3/5, 0 and -4/5 → (60 + 0 + 0)/3. Prompt 1: one image. Prompt 2: 2 of one direction.
    images = np.array([[1.0, 0.0], [7.0, 7.0], [3.0, 4.0], [0.0, 2.0], [1.0, 1.0], [0.0, -1.0]])
    groups = np.array([0, 2, 0, 1, 2, 0])
    np.testing.assert_allclose(semantic_consistency(images, groups, 3), [20, np.nan, 100])
    assert np.isnan(semantic_consistency(np.zeros((0, 2)), np.zeros(0, int), 2)).all()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(0, 1000))
def test_consistency_equals_pair_mean(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = random.normal(size=(len(groups), 5)).astype(np.float32)
    expected = []
    for group in range(len(sizes)):
        unit = [row / np.linalg.norm(row) for row in images[groups == group]]
        pairs = [max(100 * float(a @ b), 0) for a, b in itertools.combinations(unit, 2)]
        expected.append(np.mean(pairs) if pairs else np.nan)
    np.testing.assert_allclose(semantic_consistency(images, groups, len(sizes)), expected, atol=1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(size=(60, 4))
    groups = np.repeat(np.arange(20), 3)
    whole = semantic_consistency(images, groups, 20)
    monkeypatch.setattr("promptroute.scorers.consistency._BLOCK", 20)
    np.testing.assert_allclose(semantic_consistency(images, groups, 20), whole)


def test_consistency_of_prompts() -> None:
    batch = PromptGroupBatch(np.eye(4), np.array([0, 0, 1, 1]), np.zeros((3, 4)))
    np.testing.assert_array_equal(Consistency(encoder="a").score(batch)["score"], [0, 0, np.nan])
