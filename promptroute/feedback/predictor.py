"""A network with its tokenizer: images and prompts in, feedback out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.image import to_rgb
from promptroute.feedback.checkpoint import TOKENIZER, load, read_config
from promptroute.feedback.examples import text_ids, to_pixel_values
from promptroute.feedback.settings import MAX_TOKENS, precision
from promptroute.feedback.texts import WordTokens, prompt_words
from promptroute.feedback.writing import word_probabilities
from promptroute.runtime.decoding import each

if TYPE_CHECKING:
    from PIL.Image import Image

    from promptroute.feedback.network import FeedbackNetwork

SMALLEST = 8
"""Pixels along a side below which an image says nothing."""


@dataclass(frozen=True)
class Feedback:
    """What the network says of an image.

    Attributes:
        scores: name → 0..1, higher is better.
        heatmaps: name → float32 [side, side], 0..1.
        words: of the prompt, as `prompt_words` splits it.
        probabilities: float32 [words]: that the image misses it.
    """

    scores: dict[str, float]
    heatmaps: dict[str, np.ndarray]
    words: list[str]
    probabilities: np.ndarray


class Predictor:
    """Predict rich human feedback.

    Args:
        folder: that training or `convert` wrote, with its tokenizer.
        device: torch device.
        tokenizer: another tokenizer.json; None: the folder's.
        max_tokens: refuse longer prompts.
        dtype: of the computation, float32 or bfloat16; auto: bfloat16 on a GPU, float32 on the CPU.

    Raises:
        UserError: the folder or its tokenizer can't be read.
    """

    def __init__(
        self,
        folder: Path | str,
        device: str = "cpu",
        tokenizer: Path | str | None = None,
        max_tokens: int = MAX_TOKENS,
        dtype: str = "auto",
    ) -> None:
        self.folder, self.device, self.precision = Path(folder), device, precision(dtype, device)
        self.threshold = float(read_config(self.folder).get("threshold", 0.5))
        """Probability from which a word counts as missed, chosen on a validation set."""
        self.tokens = WordTokens(tokenizer or self.folder / TOKENIZER, max_tokens)

    @cached_property
    def network(self) -> "FeedbackNetwork":
        """The network, loaded at first use."""
        network = load(self.folder).to(self.device)
        size = self.tokens.tokenizer.get_vocab_size()
        if size > network.settings.vocabulary:
            raise UserError(
                f"{self.folder}: the tokenizer knows {size} tokens, the network {network.settings.vocabulary}; give "
                f"the tokenizer that it was trained with"
            )
        return network

    def predict(self, images: "Sequence[Image]", prompts: Sequence[str]) -> list[Feedback]:
        """Predict for n images with their prompts.

        Raises:
            UserError: an image is too small, or a prompt empty or too long.
        """
        import torch

        settings = self.network.settings
        words = [prompt_words(prompt) for prompt in prompts]
        ids, lengths, tasks = text_ids(words, self.tokens, settings)
        pixels = to_pixel_values(np.stack(each(partial(resized, side=settings.image_side), images)))
        half = self.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            given = self.network.predict(pixels, ids, lengths, tasks)
            found = word_probabilities(self.network, given, words, self.tokens)
        arrays = {name: given[name].float().cpu().numpy() for name in settings.outputs}
        return [
            Feedback(
                {name: float(arrays[f"score_{name}"][at]) for name in settings.scores},
                {name: arrays[f"heatmap_{name}"][at] for name in settings.heatmaps},
                words[at],
                found[at],
            )
            for at in range(len(words))
        ]


def resized(image: "Image", side: int) -> np.ndarray:
    """Turn an image of any mode into what the ViT sees before scaling: uint8 [side, side, 3].

    As ViT's own processor: bilinear by Pillow on 8-bit pixels, the aspect not kept.

    Raises:
        UserError: it is smaller than 8 pixels along a side.
    """
    from PIL import Image

    if min(image.size) < SMALLEST:
        raise UserError(
            f"the image is {image.width} × {image.height} pixels; expected at least {SMALLEST} along each side"
        )
    return np.asarray(to_rgb(image).resize((side, side), Image.Resampling.BILINEAR), np.uint8)
