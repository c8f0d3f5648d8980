"""The floor: one answer for every image."""

import numpy as np

from promptroute.recovery.learners.base import Arrays, Examples, Learner
from promptroute.recovery.vectors import Views


class Mean(Learner):
    """Predict the mean of the prompts' embeddings, whatever the image."""

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        return {"mean": examples.target.mean(axis=0)}

    def _predict(self, views: Views) -> np.ndarray:
        return np.broadcast_to(
            self._arrays["mean"], (len(next(iter(views.values()))), len(self._arrays["mean"]))
        )
