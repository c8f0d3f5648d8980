"""Quality of the nearest training prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Arrays, State
from promptroute.predictors.features import Design, Features
from promptroute.predictors.regressor import Regressor
from promptroute.predictors.targets import text_folds

ROWS = 512  # prompts compared at a time: bounds memory


class Knn(Regressor):
    """Mean quality of the k nearest training prompts by cosine of their features.

    k is chosen by cross-validation within the training prompts, folds by text, for the differences between
    models and for their level apart (see `split_level`).

    Args:
        features: what it sees; must be dense. Default: embeddings, or tf-idf in 128 dimensions where there are none,
            and text statistics.
        neighbours: k to choose from, 1 or more; those beyond the number of training prompts are cut to it.
        folds: of the cross-validation, 2 or more.
        seed: deals texts into folds.
    """

    features: Features = Features(words="fallback", components=128)
    neighbours: Annotated[tuple[PositiveInt, ...], Field(min_length=1, strict=False)] = (
        5,
        10,
        20,
        40,
        80,
        160,
        320,
    )
    folds: int = Field(5, ge=2)

    learned: ClassVar[tuple[str, ...]] = ("rows", "y", "chosen")
    _rows: Array
    _y: Array
    _chosen: Array

    def _learn(self, design: Design, y: Array, prompts: PromptBatch, quality: Array) -> None:
        rows = _unit(design.matrix())
        fold = text_folds(prompts.texts, self.folds, self.seed)
        counts = sorted({min(k, len(y)) for k in self.neighbours})
        if fold.max() == 0:  # a single text: there are no folds
            self._chosen = np.full(2, counts[-1])
        else:
            errors = np.zeros((len(counts), 2))
            for held in range(fold.max() + 1):
                train, test = fold != held, fold == held
                means = _neighbour_means(rows[test], rows[train], y[train], counts)
                squared = ((means - y[test]) ** 2).sum(1)  # [counts, m + 1]
                errors += np.stack([squared[:, :-1].sum(1), squared[:, -1]], 1)
            self._chosen = np.array(counts)[errors.argmin(0)]
        self._rows, self._y = rows, y

    def _columns(self, design: Design) -> Array:
        rows = _unit(design.matrix())
        differences, level = _neighbour_means(rows, self._rows, self._y, list(self._chosen))
        return np.hstack([differences[:, :-1], level[:, -1:]])

    def _restore(self, folder: Path, state: State, arrays: Arrays) -> None:
        super()._restore(folder, state, arrays)
        if len(self._rows) != len(self._y) or self._chosen.shape != (2,) or self._chosen.min() < 1:
            raise ValueError(
                f"rows {self._rows.shape}, y {self._y.shape} and k {self._chosen} don't fit together"
            )


def _unit(rows: Array) -> Array:
    """Scale rows to unit length, float32 (half the memory, and cosines need no more); zero rows stay zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


def _neighbour_means(queries: Array, rows: Array, y: Array, counts: Sequence[int]) -> Array:
    """Average y [t, c] over each query's k nearest rows, for each k in `counts`: [counts, n, c].

    Between rows equally near, the earlier comes first.
    """
    out = np.empty((len(counts), len(queries), y.shape[1]))
    most = min(max(counts), len(rows))
    for start in range(0, len(queries), ROWS):
        near = queries[start : start + ROWS] @ rows.T
        some = np.sort(np.argpartition(-near, most - 1, axis=1)[:, :most], axis=1)
        order = np.argsort(-np.take_along_axis(near, some, 1), axis=1, kind="stable")
        nearest = np.take_along_axis(some, order, 1)
        for i, k in enumerate(counts):
            out[i, start : start + ROWS] = y[nearest[:, :k]].mean(1)
    return out
