"""Predicted human feedback as a scorer: four scores, two maps, and marks on the prompt's words."""

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from promptroute.core.outputs import Output
from promptroute.core.plain import Plain, Section
from promptroute.feedback.settings import HEATMAPS, MAX_TOKENS, SCORES, precision
from promptroute.feedback.texts import on_spaced_words
from promptroute.io.weights import weights_id
from promptroute.scorers.base import PromptedImageBatch, Scorer

if TYPE_CHECKING:
    from promptroute.feedback.predictor import Predictor


class Rahf(Scorer):
    """Rich human feedback (Liang et al., CVPR 2024) as a network predicts it, of an image and its prompt.

    Whoever changes what any module of this room predicts raises `version`.

    Settings:
        checkpoint: folder of a network, as training or `promptroute.feedback.convert` writes it.
        max_tokens: longest prompt that it takes.
        batch_size: images per batch.
        device: torch device.
        dtype: auto (bfloat16 on a GPU, float32 on the CPU), or float32, bfloat16.
    """

    version = 2  # marks stand beside 0.5
    inputs = PromptedImageBatch
    outputs = (
        Output("plausibility", "RAHF plausibility", 0.0, 1.0),
        Output("aesthetics", "RAHF aesthetics", 0.0, 1.0),
        Output("alignment", "RAHF alignment", 0.0, 1.0),
        Output("overall", "RAHF overall", 0.0, 1.0),
        Output("implausibility", "Implausible here", 0.0, 1.0, higher_is_better=False, kind="map"),
        Output("misalignment", "Not as the prompt says", 0.0, 1.0, higher_is_better=False, kind="map"),
        Output("missed", "Words that the image misses", 0.0, 1.0, higher_is_better=False, kind="marks"),
    )
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "pillow")
    incidental: ClassVar[frozenset[str]] = frozenset({"batch_size", "device", "checkpoint", "dtype"})

    checkpoint: str
    max_tokens: int = Field(default=MAX_TOKENS, ge=1)
    batch_size: int = Field(default=16, ge=1)
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def weights(self) -> Section:
        """Check-sum the folder's weights, configuration and tokenizer; and name the precision where it is not full.

        Raises:
            UserError: the folder holds no weights as safetensors.
        """
        found = precision(self.dtype, self.device)
        return {
            **weights_id(self.checkpoint, None),
            **({} if found == "float32" else {"precision": found}),
        }

    @cached_property
    def _predictor(self) -> "Predictor":
        from promptroute.feedback.predictor import Predictor

        return Predictor(self.checkpoint, self.device, max_tokens=self.max_tokens, dtype=self.dtype)

    def score(self, batch: PromptedImageBatch) -> Section:
        """Predict for n images with their prompts.

        Marks are probabilities that the image misses a word; of a word that has several parts, the highest. Their odds
        are divided by those of the network's threshold, so that a word counts as missed from 0.5 on.

        Raises:
            UserError: as `Predictor.predict`.
        """
        found = self._predictor.predict(batch.images, batch.prompts)
        given: Plain = {name: np.array([one.scores[name] for one in found], float) for name in SCORES}
        given |= {name: [one.heatmaps[name] for one in found] for name in HEATMAPS}
        given["missed"] = [
            on_spaced_words(prompt, beside_half(one.probabilities, self._predictor.threshold).tolist())
            for prompt, one in zip(batch.prompts, found, strict=True)
        ]
        return given


def beside_half(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Divide the odds of probabilities, 0..1, by those of a threshold: it becomes 0.5, and 0 and 1 stay."""
    low = min(max(threshold, 1e-6), 1 - 1e-6)
    return probabilities * (1 - low) / (probabilities * (1 - low) + (1 - probabilities) * low)
