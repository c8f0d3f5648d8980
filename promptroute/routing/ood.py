"""Which prompts are out-of-distribution: too far from the training prompts for a prediction to count.

A predictor has nothing to go by where no training prompt is near. `OodDetector.fit` sets the threshold on
validation prompts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promptroute.core.errors import UserError
from promptroute.routing import checks
from promptroute.routing.checks import BoolArray, FloatArray
from promptroute.routing.guarantees import novelty_threshold

# Prompts compared at a time: bounds memory.
_ROWS = 512


@dataclass(frozen=True, eq=False)
class OodDetector:
    """Tell prompts that are too far from the training prompts.

    `rows` [k, d] float32: unit embeddings of the training prompts; `neighbours`: how many of them count;
    `threshold`: the novelty (see `novelty`) above which a prompt is out-of-distribution.
    """

    rows: npt.NDArray[np.float32]
    neighbours: int
    threshold: float

    @classmethod
    def fit(
        cls, train: npt.ArrayLike, validation: npt.ArrayLike, *, share: float = 0.05, neighbours: int = 10
    ) -> "OodDetector":
        """Set the threshold so that at most `share` (0 to 1) of the validation prompts is above it.

        `train` [k, d] and `validation` [n, d] are embeddings from one encoder, k and n >= 1.
        """
        rows = _unit(train, "train")
        scores = novelty(validation, rows, neighbours=neighbours)
        # Novelty is 0 or more: below that every prompt is above the threshold.
        return cls(rows, neighbours, max(novelty_threshold(scores, share), -1.0))

    def flags(self, embeddings: npt.ArrayLike) -> BoolArray:
        """Return bool [n]: whether prompts, embeddings [n, d], are out-of-distribution."""
        queries = _unit(embeddings, "embeddings")
        return np.asarray(_novelty(queries, self.rows, self.neighbours) > self.threshold)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OodDetector)
            and (self.neighbours, self.threshold) == (other.neighbours, other.threshold)
            and np.array_equal(self.rows, other.rows)
        )

    __hash__ = None  # type: ignore[assignment]


def novelty(embeddings: npt.ArrayLike, train: npt.ArrayLike, *, neighbours: int = 10) -> FloatArray:
    """Return 1 - the mean cosine to the `neighbours` nearest training prompts, [n] float64 from 0 to 2.

    `embeddings` [n, d], `train` [k, d], k >= 1, from one encoder; fewer than `neighbours` rows all count.
    The distance to the nearest neighbours is what Sun et al. (arXiv 2204.06507) detect shift by.
    """
    return _novelty(_unit(embeddings, "embeddings"), _unit(train, "train"), neighbours)


def _novelty(queries: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], neighbours: int) -> FloatArray:
    """`novelty` of rows that have unit length already: the training rows are many, so not again each time."""
    if queries.shape[1] != rows.shape[1] or not len(rows):
        raise ValueError(
            f"embeddings are {queries.shape} and train {rows.shape}: expected equal widths, one row or more"
        )
    if neighbours < 1:
        raise UserError(f"neighbours is {neighbours}, expected 1 or more")
    k = min(neighbours, len(rows))
    found = np.empty(len(queries))
    for start in range(0, len(queries), _ROWS):
        near = queries[start : start + _ROWS] @ rows.T
        nearest = np.partition(near, len(rows) - k, axis=1)[:, len(rows) - k :]
        found[start : start + _ROWS] = 1 - nearest.mean(axis=1, dtype=np.float64)
    return found


def _unit(rows: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """Return rows of unit length; rows of zeros stay."""
    values = checks.quality_matrix(rows, name)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1), dtype=np.float32)
