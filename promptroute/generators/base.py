"""What a text-to-image model can do."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Generator(Protocol):
    """A text-to-image model.

    Attributes:
        device: torch device that it draws on.
        batch_size: images per batch.
        streams: batches that are drawn side by side, on a GPU.
    """

    device: str
    batch_size: int
    streams: int

    @property
    def fingerprint_parts(self) -> Mapping[str, Any]:
        """All that decides an image but its prompt and seed, as JSON-able values. Loads no weights."""
        ...

    def load(self) -> None:
        """Load the weights, which the first `draw` does otherwise.

        Raises:
            UserError: they can't be loaded.
        """
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """One batch: n prompts and n seeds → float32 [n, height, width, 3], RGB in 0..1.

        Called by several threads at once. Each image's noise comes from its own
        `torch.Generator("cpu").manual_seed(seed)`. A picture may hold values that are not finite, where the
        model failed.

        Raises:
            UserError: the model can't be loaded.
        """
        ...
