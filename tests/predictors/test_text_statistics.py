"""Kernel ridge regression on text statistics, against formulas written out."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.predictors.statistics import statistics
from promptroute.predictors.text_statistics import TextStatistics

WORDS = ["a red star", "two blue circles, one green square", "LABEL", "in a field, 3 stars.", "art by nobody"]
TEXTS = [f"{word} {'very ' * (place % 4)}{place}" for place in range(8) for word in WORDS]
QUALITY = np.random.default_rng(0).normal(size=(40, 3)) + statistics(TEXTS)[:, :3]


def by_hand(learnt: list[int], asked: list[int], alpha: float = 0.5, length: float = 2.0) -> np.ndarray:
    """Scale, unit and mean are those of all 40 prompts, as leave-one-out has it."""
    counts = statistics(TEXTS)
    spread = counts.std(0)
    rows = np.clip((counts - counts.mean(0)) / np.where(spread > 1e-6, spread, np.inf), -4, 4)
    distance = np.linalg.norm(rows[:, None] - rows, axis=2)
    r = np.sqrt(3) * distance / (length * np.median(distance[np.triu_indices(40, 1)]))
    k, level = (1 + r) * np.exp(-r), QUALITY.mean(0)
    weights = np.linalg.solve(
        k[np.ix_(learnt, learnt)] + alpha * np.eye(len(learnt)), QUALITY[learnt] - level
    )
    return np.asarray(level + k[np.ix_(asked, learnt)] @ weights)


def fitted(**settings: object) -> TextStatistics:
    held = PromptBatch(TEXTS[30:]), QUALITY[30:]
    return TextStatistics.model_validate(settings).fit(PromptBatch(TEXTS[:30]), QUALITY[:30], held)


def test_predicts() -> None:
    found, every = fitted(alpha=0.5, length=2.0), list(range(40))
    np.testing.assert_allclose(found.predict(PromptBatch(TEXTS)), by_hand(every, every), rtol=1e-3, atol=1e-3)


def test_leave_one_out() -> None:
    found = fitted(alpha=0.5, length=2.0).out_of_fold
    assert found is not None
    for one in (0, 17, 39):
        rest = [place for place in range(40) if place != one]
        np.testing.assert_allclose(found[[one]], by_hand(rest, [one]), rtol=1e-3, atol=1e-3)


def test_most() -> None:
    few = fitted(most=10)
    assert few._rows.shape == (10, 19) and few.out_of_fold is not None
    chosen = np.random.default_rng(0).permutation(40)[:10]
    others = np.setdiff1d(np.arange(40), chosen)
    predicted = few.predict(PromptBatch(TEXTS))
    np.testing.assert_allclose(few.out_of_fold[others], predicted[others])
    assert np.abs(few.out_of_fold[chosen] - predicted[chosen]).max() > 0.01


def test_validation_aside() -> None:
    alone = fitted(learn_validation=False)
    assert alone.out_of_fold is None and alone.predict(PromptBatch(TEXTS[:1])) == pytest.approx(
        TextStatistics.model_validate({})
        .fit(PromptBatch(TEXTS[:30]), QUALITY[:30])
        .predict(PromptBatch(TEXTS[:1]))
    )
