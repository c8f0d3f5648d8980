"""How well an image fits its prompt."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from promptroute.core.outputs import Output
from promptroute.scorers.base import EmbeddingBatch, EmbeddingScorer


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1: [n, d] → float64 [n, d]."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clip_score(images: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Compute 100 · max(cos(image, prompt), 0), row by row: 0 to 100, higher is better.

    Hessel et al. 2021 (arXiv 2104.08718), with the factor 100 of the common implementations (theirs is 2.5)
    and without their prompt prefix.

    Args:
        images, prompts: [n, d] embeddings by one CLIP model.

    Returns:
        float64 [n].
    """
    # Rounding may take the cosine of equal vectors just above 1.
    return 100 * np.clip((normalised(images) * normalised(prompts)).sum(axis=1), 0, 1)


class ClipScore(EmbeddingScorer):
    """The CLIP score, from stored embeddings; see `clip_score`.

    Settings:
        encoder: name of the CLIP model whose embeddings it takes.
    """

    outputs = (Output("score", "CLIP score", 0.0, 100.0),)
    # A small encoder, as ViT-B/32, takes a card some 4 ms, and the small world's a thread of a CPU 4 ms and 0.8 GB.
    profile: dict[str, float] | None = Field(default={"seconds": 0.004, "memory_gb": 1.0})

    def score(self, batch: EmbeddingBatch) -> Mapping[str, np.ndarray]:
        """Score n images by their own prompts."""
        return {"score": clip_score(batch.images, batch.prompts)}
