"""Kernel ridge regression on plain statistics of a prompt's text."""

from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Predictor, Seed, Validation
from promptroute.predictors.similarity import matern, median_distance
from promptroute.predictors.statistics import statistics

ROWS = 512  # prompts at a time: bounds memory
LIMIT = 4.0  # standard deviations of a statistic


class TextStatistics(Predictor):
    """Kernel ridge regression, Matérn 3/2, on how a prompt is written: its length, commas, digits, capitals and the like.

    As `Kernel` it learns from validation too, and its leave-one-out predictions are exact, with scale and mean as they are.

    Args:
        alpha: regularisation, above 0: variance of the noise, where the kernel is 1 for a prompt and itself.
        length: of the kernel, in units of the median distance between prompts, above 0.
        most: prompts to learn from, chosen by chance where there are more: so few numbers have no more to tell.
        learn_validation: learn from validation too.
        seed: chooses the prompts.
    """

    alpha: PositiveFloat = 1.0
    length: PositiveFloat = 1.0
    most: PositiveInt = 4000
    learn_validation: bool = True
    seed: Seed = 0

    learned: ClassVar[tuple[str, ...]] = ("mean", "factor", "rows", "unit", "weights", "level")
    _mean: Array
    _factor: Array
    _rows: Array
    _unit: float
    _weights: Array
    _level: Array

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        more = validation if self.learn_validation else None
        if more is not None:
            prompts, quality = prompts.joined(more[0]), np.vstack([quality, more[1]])
        few = np.sort(np.random.default_rng(self.seed).permutation(len(quality))[: self.most])
        counts, y = statistics([prompts.texts[place] for place in few]), quality[few]
        self._mean, spread = counts.mean(0), counts.std(0)
        self._factor = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
        self._rows = self._scaled(counts)
        self._unit = self.length * median_distance(self._rows)
        self._level = y.mean(0)
        inverse = np.linalg.inv(self._similar(self._rows) + self.alpha * np.eye(len(few)))
        self._weights = inverse @ (y - self._level)
        if more is not None:
            self._out_of_fold = self._predict(prompts)
            # Rasmussen & Williams 2006, eq. 5.12.
            self._out_of_fold[few] = y - self._weights / np.diag(inverse)[:, None]

    def _predict(self, prompts: PromptBatch) -> Array:
        rows = self._scaled(statistics(prompts.texts))
        parts = range(0, len(rows), ROWS)
        found = [self._similar(rows[start : start + ROWS]) @ self._weights for start in parts]
        return np.concatenate(found) + self._level

    def _scaled(self, counts: Array) -> Array:
        return np.asarray(np.clip((counts - self._mean) * self._factor, -LIMIT, LIMIT), np.float32)

    def _similar(self, rows: Array) -> Array:
        """Compare prompts with those learnt from, float64 [n, learnt]."""
        norms = np.asarray((self._rows**2).sum(1))
        return matern(rows, self._rows, norms, self._unit).astype(np.float64)
