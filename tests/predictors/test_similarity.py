"""The kernel of prompts, against its formula worked out row by row."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from promptroute.predictors import similarity
from promptroute.predictors.similarity import Seen, Similarity

LENGTHS = np.array([1.7, 0.6])


def seen(n: int, seed: int, width: int = 5) -> Seen:
    """Prompts with made-up vectors, and a third of 40 terms, those at the front the most often."""
    random = np.random.default_rng(seed)
    c = random.random((n, 40)) * (random.random((n, 40)) < np.linspace(0.9, 0.02, 40))
    length = np.linalg.norm(c, axis=1, keepdims=True)
    z, e = (random.normal(size=(n, width)).astype(np.float32) for _ in range(2))
    return Seen(z, e, csr_array((c / np.where(length > 0, length, 1)).astype(np.float32)))


def by_hand(a: Seen, b: Seen, weight: float) -> np.ndarray:
    """The formula of `Kernel` in float64."""

    def matern(x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
        far = np.linalg.norm(x[:, None].astype(float) - y[None].astype(float), axis=2)
        r = np.sqrt(3) * far / length
        return (1 + r) * np.exp(-r)

    spelled = np.exp(a.c.toarray().astype(float) @ b.c.toarray().astype(float).T - 1)
    first = matern(a.z, b.z, LENGTHS[0]) * spelled
    return first + weight * matern(a.e, b.e, LENGTHS[1]) if a.e.shape[1] else first


@pytest.fixture(params=["one block", "many"], autouse=True)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are; or so small that all is done in parts, a few frequent terms and many rare ones."""
    if request.param == "many":
        for name, value in {"ROWS": 4, "COLUMNS": 7, "FREQUENT": 6, "FEW": 2}.items():
            monkeypatch.setattr(similarity, name, value)


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 3, 21])
def test_formula(n: int, weight: float) -> None:
    learned, prompts = seen(30, 0), seen(n, 1)
    found = Similarity(learned, LENGTHS, weight)(prompts)
    assert found.dtype == np.float32 and np.ptp(found) > 0.1
    np.testing.assert_allclose(found, by_hand(prompts, learned, weight), atol=2e-6)


def test_without_vectors() -> None:
    learned, prompts = seen(30, 0, width=0), seen(9, 1, width=0)
    np.testing.assert_allclose(
        Similarity(learned, LENGTHS, 0.5)(prompts), np.exp((prompts.c @ learned.c.T).toarray() - 1), atol=1e-6
    )


def test_without_terms() -> None:
    learned, prompts = seen(30, 0), seen(9, 1)
    bare = [Seen(one.z, one.e, csr_array((len(one), 0), dtype=np.float32)) for one in (learned, prompts)]
    np.testing.assert_allclose(
        Similarity(bare[0], LENGTHS, 0.5)(bare[1]), by_hand(bare[1], bare[0], 0.5), atol=2e-6
    )


def test_product() -> None:
    learned, prompts = seen(30, 0), seen(21, 1)
    compare = Similarity(learned, LENGTHS, 0.5)
    weights = np.random.default_rng(2).normal(size=(30, 3)).astype(np.float32)
    np.testing.assert_allclose(compare.times(prompts, weights), compare(prompts) @ weights, atol=1e-5)


def test_lower_half() -> None:
    learned = seen(30, 0)
    compare = Similarity(learned, LENGTHS, 0.5)
    np.testing.assert_allclose(np.tril(compare.lower()), np.tril(compare(learned)), atol=2e-6)


def test_alone_as_in_a_batch() -> None:
    learned, prompts = seen(30, 0), seen(21, 1)
    compare = Similarity(learned, LENGTHS, 0.5)
    together: Any = compare(prompts)
    for row in (0, 7, 20):
        np.testing.assert_allclose(compare(prompts.take(slice(row, row + 1)))[0], together[row], atol=2e-6)
