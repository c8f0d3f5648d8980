"""Split quality into the differences between models and the level common to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

Array = np.ndarray


def split_level(quality: Array) -> tuple[Array, Array]:
    """Split quality [n, m] into differences [n, m], whose rows sum to 0, and level [n, 1], the mean over models.

    A choice depends on the differences alone. Most of the variance of quality lies in the level, so what is
    fitted to both with one regularisation serves the level and blurs the differences.
    """
    level = quality.mean(1, keepdims=True)
    return quality - level, level


@dataclass(frozen=True)
class Targets:
    """Turn quality [n, m] into m + 1 columns to learn: differences, then level.

    Each column is centred; the differences share one unit, so that models stay comparable.

    Attributes:
        offset: float64 [m + 1], mean of each column on the training prompts.
        scale: float64 [m + 1], root mean square of the centred differences (m times), and of the level; 0 where
            nothing varies, so that nothing but the offset is ever predicted there.
    """

    offset: Array
    scale: Array

    @classmethod
    def fit(cls, quality: Array) -> Self:
        """Take offset and scale from the training prompts' quality [n, m]."""
        columns = np.hstack(split_level(quality))
        offset = columns.mean(0)
        centred = columns - offset
        difference = np.sqrt((centred[:, :-1] ** 2).mean())
        level = np.sqrt((centred[:, -1] ** 2).mean())
        scale = np.append(np.full(quality.shape[1], difference), level)
        scale[scale < 1e-12 * np.maximum(1, np.abs(offset))] = 0
        return cls(offset, scale)

    def encode(self, quality: Array) -> Array:
        """Turn quality [n, m] into columns, float64 [n, m + 1]."""
        columns = np.hstack(split_level(quality)) - self.offset
        return np.divide(columns, self.scale, out=np.zeros_like(columns), where=self.scale > 0)

    def decode(self, columns: Array) -> Array:
        """Turn columns [n, m + 1] into quality, float64 [n, m]."""
        columns = columns * self.scale + self.offset
        return columns[:, :-1] + columns[:, -1:]

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that a predictor saves."""
        return {"targets.offset": self.offset, "targets.scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Self:
        """Make it again of what `arrays` returned."""
        return cls(arrays["targets.offset"], arrays["targets.scale"])


def text_folds(texts: Sequence[str], folds: int, seed: int) -> Array:
    """Deal each prompt into a fold, int64 [n] in 0 … k - 1, k = min(folds, different texts).

    Equal texts share a fold, so that nothing is judged on a text that it was fitted on; folds hold equally
    many different texts, to within one.
    """
    unique = sorted(set(texts))
    order = np.random.default_rng(seed).permutation(len(unique))
    fold = dict(zip(unique, order % min(folds, len(unique)), strict=True))
    return np.array([fold[text] for text in texts], np.int64)
