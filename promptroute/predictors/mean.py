"""The null predictor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.predictors.base import Array, Learner, Validation


@dataclass
class Mean(Learner):
    """Every prompt gets each model's mean quality over the training prompts: what any other must beat."""

    kind: ClassVar[str] = "mean"

    def _fit(self, prompts: PromptBatch, quality: Array, validation: Validation) -> None:
        self._mean = quality.mean(0)

    def _predict(self, prompts: PromptBatch) -> Array:
        return np.tile(self._mean, (len(prompts), 1))

    def _state(self, folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        return {}, {"mean": self._mean}

    def _restore(self, folder: Path, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._mean = arrays["mean"]
