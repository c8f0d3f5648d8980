"""Several learners as one: a weighted sum of their answers."""

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import Field

from promptroute.core.plain import Plain, Section
from promptroute.recovery.learners.base import Arrays, Examples, Learner
from promptroute.recovery.vectors import Views, folds


class Blend(Learner):
    """Add up several learners' unit vectors, with weights of 0 or more that fit out-of-fold predictions best.

    The weights minimise the squared distance between the weighted sum and the target; all learners are then fitted on
    everything.

    Args:
        learners: name → learner, two or more.
        folds: how many the out-of-fold predictions take, each of other groups.
        seed: of the folds.
    """

    learners: Mapping[str, Learner] = Field(min_length=2)
    folds: int = Field(4, ge=2)
    seed: int = Field(0, ge=0, lt=2**32)

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        from scipy.optimize import nnls

        fold = folds(groups, self.folds, self.seed)
        predicted = np.zeros((len(self.learners), *examples.target.shape), np.float32)
        for number in range(self.folds):
            known, judged = examples.take(fold != number), examples.take(fold == number)
            for place, learner in enumerate(self.learners.values()):
                learner.fit(known.views, known.target, groups[fold != number])
                predicted[place, fold == number] = learner.predict(judged.views)
        rows = predicted.reshape(len(self.learners), -1).astype(np.float64)
        # The normal equations' square root: as small as there are learners.
        values, vectors = np.linalg.eigh(rows @ rows.T)
        root = np.sqrt(np.maximum(values, 1e-9))
        weights, _ = nnls(root[:, None] * vectors.T, vectors.T @ (rows @ examples.target.reshape(-1)) / root)
        for learner in self.learners.values():
            learner.fit(examples.views, examples.target, groups, validation)
        return {"weights": weights if weights.any() else np.ones(len(self.learners))}

    def _predict(self, views: Views) -> np.ndarray:
        parts = zip(self._arrays["weights"], self.learners.values(), strict=True)
        return np.asarray(sum(weight * learner.predict(views) for weight, learner in parts))

    def state(self) -> tuple[Plain, Arrays]:
        """See `Learner.state`; each learner's arrays bear its name."""
        facts, arrays = super().state()
        states = {name: learner.state() for name, learner in self.learners.items()}
        inner = {f"{name}.{key}": value for name, (_, own) in states.items() for key, value in own.items()}
        return {**facts, "learners": {name: own for name, (own, _) in states.items()}}, {**arrays, **inner}

    def restore(self, facts: Section, arrays: Arrays) -> Self:
        """See `Learner.restore`."""
        super().restore(facts, {"weights": arrays["weights"]})
        for name, learner in self.learners.items():
            start = f"{name}."
            own = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
            learner.restore(facts["learners"][name], own)
        return self
