"""What a scorer is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class PixelScorer(Protocol):
    """Scores a picture by its pixels.

    Attributes:
        batch_size: pictures per batch.
        fingerprint_parts: all that decides a score, as JSON-able values; loads no weights.
    """

    batch_size: int

    @property
    def fingerprint_parts(self) -> Mapping[str, Any]: ...

    def score(self, pictures: Sequence["Image"]) -> np.ndarray:
        """One batch: n pictures of any size and mode → float64 [n]."""
        ...


@runtime_checkable
class EmbeddingScorer(Protocol):
    """Scores pictures by their stored embeddings.

    Attributes:
        encoder: name of the image encoder whose embeddings it takes.
        grouped: whether one score stands for all of a prompt's pictures; else each has its own.
    """

    encoder: str
    grouped: bool

    def score(self, images: np.ndarray, texts: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Score n pictures of g prompts.

        Args:
            images: float32 [n, d], the pictures' embeddings, of any length but 0.
            texts: float32 [g, d], the prompts' embeddings by the same encoder.
            groups: int [n], which of the g prompts each picture is of.

        Returns:
            float64 [g] where `grouped` (NaN for a prompt that has too few pictures), else [n].
        """
        ...
