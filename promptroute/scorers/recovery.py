"""How much of its prompt can be read back from an image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from promptroute.core.outputs import Output
from promptroute.core.plain import Section
from promptroute.scorers.base import EmbeddingBatch, EmbeddingScorer
from promptroute.scorers.clip_score import clip_score

PREDICTED = Path("data/recovery/predicted")
"""Where the stage `recover` writes each image's predicted prompt embedding, beside the prompts' own."""


class RecoveryScore(EmbeddingScorer):
    """100 · max(cos, 0) between the embedding that an image's prompt is predicted to have and the prompt's own.

    The predictions are cross-fitted by text: none is made by a learner that saw the image's prompt, or a near one.

    Settings:
        encoder: `predicted`, what the stage `recover` writes.
    """

    outputs = (Output("score", "Prompt recovery", 0.0, 100.0),)
    encoder: str = "predicted"

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the folder of the predictions."""
        return str(PREDICTED)

    @property
    def folder(self) -> Path:
        """Return the folder of the predictions."""
        return PREDICTED

    def score(self, batch: EmbeddingBatch) -> Mapping[str, np.ndarray]:
        """Score n images by their own prompts."""
        return {"score": clip_score(batch.images, batch.prompts)}
