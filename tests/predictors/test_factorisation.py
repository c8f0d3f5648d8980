"""The pairwise loss by hand and by differences, and what the factorisation learns."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.predictors.factorisation import Factorisation, pair_loss


def test_pair_loss() -> None:
    # Pairs (0, 1), (0, 2), (1, 2). Model 0 wins against 1, ties with 2; 2 wins against 1.
    loss, slope = pair_loss(np.array([[np.log(3), 0.0, 0.0]]), np.array([[2.0, 1.0, 2.0]]))
    first = -np.log(3 / 4)  # sigmoid(log 3) = 3 / 4
    second = -(np.log(3 / 4) + np.log(1 / 4)) / 2
    third = -np.log(1 / 2)
    assert loss == pytest.approx((first + second + third) / 3)
    np.testing.assert_allclose(slope, [[(-1 / 4 + 1 / 4) / 3, (1 / 4 + 1 / 2) / 3, (-1 / 4 - 1 / 2) / 3]])


def test_slope() -> None:
    random = np.random.default_rng(0)
    scores, quality = random.normal(size=(6, 4)), random.integers(0, 3, (6, 4))
    _, slope = pair_loss(scores, quality)
    for i, j in np.ndindex(scores.shape):
        step = np.zeros(scores.shape)
        step[i, j] = 1e-6
        difference = pair_loss(scores + step, quality)[0] - pair_loss(scores - step, quality)[0]
        assert slope[i, j] == pytest.approx(difference / 2e-6, abs=1e-8)


def test_learns() -> None:
    random = np.random.default_rng(1)

    def sample(n: int) -> tuple[PromptBatch, np.ndarray]:
        rows = random.normal(size=(n, 5)).astype(np.float32)
        quality = 30 + random.normal(size=(n, 1)) + 2.0 * np.outer(rows[:, 0], [1, 0, -1])
        return PromptBatch([f"prompt {i}" for i in range(n)], {"one": rows}), quality

    prompts, quality = sample(400)
    test, true = sample(200)
    predicted = Factorisation(penalties=[0.003]).fit(prompts, quality).predict(test)
    assert (predicted.argmax(1) == true.argmax(1)).mean() > 0.9
    lead, expected = predicted[:, 0] - predicted[:, 2], true[:, 0] - true[:, 2]
    assert np.corrcoef(lead, expected)[0, 1] > 0.98
    assert np.polyfit(expected, lead, 1)[0] == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(predicted.mean(1), quality.mean(), atol=1e-6)  # the level is not learned


def test_careful_penalty() -> None:
    random = np.random.default_rng(2)
    prompts = PromptBatch(
        [f"p {i}" for i in range(200)], {"one": random.normal(size=(200, 50)).astype(np.float32)}
    )
    quality = random.normal(size=(200, 3))
    both = Factorisation(penalties=[1e-4, 1.0]).fit(prompts, quality).predict(prompts)
    careful = Factorisation(penalties=[1.0]).fit(prompts, quality).predict(prompts)
    np.testing.assert_array_equal(both, careful)


def test_single_model_and_text() -> None:
    same = PromptBatch(["a", "a"], {"one": np.ones((2, 3), np.float32)})
    np.testing.assert_allclose(Factorisation().fit(same, np.array([[1.0], [3.0]])).predict(same), [[2], [2]])
