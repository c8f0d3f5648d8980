"""Quality of the nearest training prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.predictors.base import Array, Learner, Validation
from promptroute.predictors.features import Features, FittedFeatures
from promptroute.predictors.targets import Targets, text_folds

ROWS = 512  # prompts compared at a time: bounds memory


def dense_features() -> Features:
    """Embeddings where there are any, else tf-idf reduced to 128 dimensions; and text statistics."""
    return Features(words="fallback", components=128)


@dataclass
class Knn(Learner):
    """Mean quality of the k nearest training prompts by cosine of their features.

    k is chosen by cross-validation within the training prompts, folds by text, for the differences between
    models and for their level apart (see `split_level`).

    Args:
        features: what it sees; must be dense.
        neighbours: k to choose from, >= 1; those beyond the number of training prompts are cut to it.
        folds: of the cross-validation.
        seed: deals texts into folds.
    """

    kind: ClassVar[str] = "knn"
    features: Features = field(default_factory=dense_features)
    neighbours: Sequence[int] = (5, 10, 20, 40, 80, 160, 320)
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, dict):
            self.features = Features(**self.features)
        if not len(self.neighbours) or min(self.neighbours) < 1:
            raise UserError(
                f"knn: neighbours is {list(self.neighbours)}; expected one or more counts, each >= 1"
            )
        if self.folds < 2:
            raise UserError(f"knn: folds is {self.folds}; expected 2 or more")

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        fitted = self.features.fit(prompts)
        rows = _unit(fitted.transform(prompts).matrix())
        targets = Targets.fit(quality)
        y = targets.encode(quality)
        fold = text_folds(prompts.texts, self.folds, self.seed)
        counts = sorted({min(k, len(y)) for k in self.neighbours})
        if fold.max() == 0:  # one text only: nothing can be held out
            self._chosen = np.full(2, counts[-1])
        else:
            errors = np.zeros((len(counts), 2))
            for held in range(fold.max() + 1):
                train, test = fold != held, fold == held
                means = _neighbour_means(rows[test], rows[train], y[train], counts)
                squared = ((means - y[test]) ** 2).sum(1)  # [counts, m + 1]
                errors += np.stack([squared[:, :-1].sum(1), squared[:, -1]], 1)
            self._chosen = np.array(counts)[errors.argmin(0)]
        self._fitted, self._targets, self._rows, self._y = fitted, targets, rows, y

    def _predict(self, prompts: PromptBatch) -> Array:
        rows = _unit(self._fitted.transform(prompts).matrix())
        differences, level = _neighbour_means(rows, self._rows, self._y, list(self._chosen))
        return self._targets.decode(np.hstack([differences[:, :-1], level[:, -1:]]))

    def _widths(self) -> dict[str, int]:
        return self._fitted.widths

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        state, arrays = self._fitted.state()
        arrays |= self._targets.arrays() | {"rows": self._rows, "y": self._y, "chosen": self._chosen}
        return {"features": state}, arrays

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._fitted = FittedFeatures.from_state(self.features, state["features"], arrays)
        self._targets = Targets.from_arrays(arrays)
        self._rows, self._y, self._chosen = arrays["rows"], arrays["y"], arrays["chosen"]
        if len(self._rows) != len(self._y) or self._chosen.shape != (2,) or self._chosen.min() < 1:
            raise ValueError(
                f"rows {self._rows.shape}, y {self._y.shape} and k {self._chosen} don't fit together"
            )


def _unit(rows: Array) -> Array:
    """Rows of unit length, float32 (half the memory, and cosines need no more); zero rows stay zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


def _neighbour_means(queries: Array, rows: Array, y: Array, counts: Sequence[int]) -> Array:
    """For each k in `counts`, the mean of y [t, c] over each query's k nearest rows: [counts, n, c].

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
