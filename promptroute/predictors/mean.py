"""The null predictor."""

from typing import ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Predictor, Validation


class Mean(Predictor):
    """Predicts each model's mean quality over the training prompts, whatever the prompt: what others must beat."""

    learned: ClassVar[tuple[str, ...]] = ("mean",)
    _mean: Array

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        self._mean = quality.mean(0)

    def _predict(self, prompts: PromptBatch) -> Array:
        return np.tile(self._mean, (len(prompts), 1))
