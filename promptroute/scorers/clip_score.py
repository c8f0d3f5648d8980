"""How well a picture fits its prompt."""

from dataclasses import dataclass

import numpy as np


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float64 [n, d]."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clip_score(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """100 · max(cos(image, text), 0), row by row: 0 to 100, higher is better.

    Hessel et al. 2021 (arXiv 2104.08718), with the factor 100 of the common implementations (theirs is 2.5)
    and without their prompt prefix.

    Args:
        images, texts: [n, d] embeddings by one CLIP model.

    Returns:
        float64 [n].
    """
    # Rounding may take the cosine of equal vectors just above 1.
    return 100 * np.clip((normalised(images) * normalised(texts)).sum(axis=1), 0, 1)


@dataclass(frozen=True)
class ClipScore:
    """The CLIP score, from stored embeddings; see `clip_score`.

    Attributes:
        encoder: name of the encoder whose embeddings it takes.
    """

    encoder: str
    grouped: bool = False

    def score(self, images: np.ndarray, texts: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """As `EmbeddingScorer.score`: float64 [n]."""
        return clip_score(images, np.asarray(texts)[groups])
