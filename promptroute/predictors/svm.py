"""Support vector regression: the SVM router among the usual baselines."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Arrays, Positives, State
from promptroute.predictors.features import Design, Features
from promptroute.predictors.regressor import Regressor
from promptroute.predictors.targets import text_folds

ROWS = 512  # prompts compared at a time: bounds memory


class Svm(Regressor):
    """Support vector regression with a Gaussian kernel, one machine for each model (scikit-learn's libsvm).

    Regression rather than classification into the best model: a class has no quality to weigh against cost,
    and counts a near tie as much as a blunder. Learned are the differences between models, and their level
    apart (see `split_level`); both choose penalty and width by squared error on a held-out fold.

    Smola & Schölkopf, A tutorial on support vector regression, Statistics and Computing 14 (2004).

    Args:
        features: what it sees; must be dense. Default: embeddings, or tf-idf in 128 dimensions where there are none.
        penalties: C to choose from, > 0: the price of an error outside the tube.
        widths: of the kernel exp(-d² / (width² · median d²)) to choose from, > 0, d the distance.
        tube: errors up to this many units of the standardised targets are free, 0 or more.
        folds: number of parts, by text; the first is left out for the choice, then all prompts are fitted.
        seed: deals texts into folds.
    """

    features: Features = Features(words="fallback", components=128, statistics=False)
    penalties: Positives = (0.5, 2.0)
    widths: Positives = (0.35, 0.5, 0.7)
    tube: NonNegativeFloat = 0.1
    folds: int = Field(5, ge=2)

    learned: ClassVar[tuple[str, ...]] = ("rows", "dual", "bias", "scales")
    _rows: Array
    _dual: Array
    _bias: Array
    _scales: Array

    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        rows = design.matrix()
        squared = _squared_distances(rows, rows)
        apart = squared[squared > 0]
        median = float(np.median(apart)) if apart.size else 1.0
        fold = text_folds(prompts.texts, self.folds, self.seed)
        train, held = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
        grid = [(width, penalty) for width in self.widths for penalty in self.penalties]
        errors = np.zeros((len(grid), 2))
        if len(train) and len(grid) > 1:
            within, across = squared[np.ix_(train, train)], squared[np.ix_(held, train)]
            for g, (width, penalty) in enumerate(grid):
                scale = -1 / (width**2 * median)
                dual, bias = self._solve(np.exp(scale * within), y[train], penalty)
                wrong = ((np.exp(scale * across) @ dual + bias - y[held]) ** 2).sum(0)
                errors[g] = wrong[:-1].sum(), wrong[-1]
        m = quality.shape[1]
        duals, biases, scales = [], [], []
        for part, best in zip((slice(0, m), slice(m, m + 1)), errors.argmin(0), strict=True):
            width, penalty = grid[int(best)]
            scales.append(-1 / (width**2 * median))
            dual, bias = self._solve(np.exp(scales[-1] * squared), y[:, part], penalty)
            duals.append(dual)
            biases.append(bias)
        dual = np.hstack(duals)
        kept = np.flatnonzero(dual.any(1))
        self._rows, self._dual = rows[kept], dual[kept]
        self._bias, self._scales = np.concatenate(biases), np.array(scales)

    def _solve(self, kernel: Array, y: Array, penalty: float) -> tuple[Array, Array]:
        """Return dual coefficients [n, k] and intercepts [k] of a machine for each column of y [n, k]."""
        from sklearn.svm import SVR

        dual, bias = np.zeros(y.shape), np.zeros(y.shape[1])
        for column in range(y.shape[1]):
            # The kernel is computed once for all machines: libsvm's own would be most of the time.
            machine = SVR(kernel="precomputed", C=penalty, epsilon=self.tube, cache_size=500)
            machine.fit(kernel, y[:, column])
            dual[machine.support_, column] = machine.dual_coef_[0]
            bias[column] = machine.intercept_[0]
        return dual, bias

    def _columns(self, design: Design) -> Array:
        rows = design.matrix()
        out = np.empty((len(rows), self._dual.shape[1]))
        for start in range(0, len(rows), ROWS):
            squared = _squared_distances(rows[start : start + ROWS], self._rows)
            out[start : start + ROWS, :-1] = np.exp(self._scales[0] * squared) @ self._dual[:, :-1]
            out[start : start + ROWS, -1:] = np.exp(self._scales[1] * squared) @ self._dual[:, -1:]
        return out + self._bias

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        super()._restore(folder, state, arrays)
        if self._scales.shape != (2,) or self._bias.shape != self._dual.shape[1:]:
            raise ValueError(f"scales {self._scales.shape} and bias {self._bias.shape} don't fit together")


def _squared_distances(left: Array, right: Array) -> Array:
    """Return squared Euclidean distances between rows [n, d] and [k, d], float64 [n, k]."""
    squared = (left * left).sum(1)[:, None] + (right * right).sum(1) - 2 * left @ right.T
    return np.maximum(squared, 0, out=squared)
