"""A study's prompts with everything known of them, as the arrays that training and routing work on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from promptroute.core.batch import PromptBatch


@dataclass(frozen=True)
class StudyData:
    """n prompts with everything known of them, row for row.

    Attributes:
        prompt_ids: [n].
        sets: [n] prompt set of each.
        batch: their texts and embeddings.
        models: m names, in the order of the columns below.
        raw: score name → float64 [n, m], mean over the images, in the score's own unit and direction.
        seconds: float64 [n, m] seconds per image; NaN where that was not recorded.
        images: score name → float64 [n, m, k] of each single image, for the scores that have them.
    """

    prompt_ids: np.ndarray
    sets: np.ndarray
    batch: PromptBatch
    models: tuple[str, ...]
    raw: Mapping[str, np.ndarray]
    seconds: np.ndarray
    images: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def take(self, index: np.ndarray) -> "StudyData":
        """The prompts at the integer positions `index`, in that order."""
        return StudyData(
            self.prompt_ids[index],
            self.sets[index],
            self.batch.take(index),
            self.models,
            {name: values[index] for name, values in self.raw.items()},
            self.seconds[index],
            {name: values[index] for name, values in self.images.items()},
        )

    def measured_seconds(self) -> dict[str, float]:
        """Mean seconds per image of each model that has any recorded."""
        means = {}
        for model, column in zip(self.models, self.seconds.T, strict=True):
            if np.isfinite(column).any():
                means[model] = float(np.nanmean(column))
        return means
