"""How alike the images are that a model generates from a prompt."""

from collections.abc import Mapping

import numpy as np

from promptroute.core.outputs import Output
from promptroute.scorers.base import EmbeddingScorer, PromptGroupBatch

_BLOCK = 4_000_000
"""Numbers of embeddings in memory at once."""
_FEW = 4
"""Images of a prompt up to which a call of the matrix product costs more than the product itself."""


def semantic_consistency(images: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Average max(100 · cos(i, j), 0) over all unordered pairs of a prompt's images: 0 to 100.

    Higher is more repeatable. Bent, CVPR 2024 workshops (arXiv 2404.08799), there with CLIP ViT-B/32.

    Args:
        images: [n, d] embeddings by one image encoder.
        groups: int [n], the prompt of each, 0 to n_groups - 1; in any order, of any sizes.
        n_groups: how many prompts.

    Returns:
        float64 [n_groups]; NaN where a prompt has fewer than two images.
    """
    scores = np.full(n_groups, np.nan)
    if not len(images):
        return scores
    vectors = np.asarray(images, np.float32)
    if (groups[:-1] > groups[1:]).any():
        vectors = vectors[np.argsort(groups, kind="stable")]
    sizes = np.bincount(groups, minlength=n_groups)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes >= 2]):
        which = np.flatnonzero(sizes == size)
        left, right = np.triu_indices(size, k=1)
        step = max(1, _BLOCK // (size * vectors.shape[1]))
        for first in range(0, len(which), step):
            part = which[first : first + step]
            run = vectors[starts[part[0]] : starts[part[-1]] + size]
            if len(run) == len(part) * size:  # nothing of other sizes between them, so no copy is needed
                stack = run.reshape(len(part), size, -1)
            else:
                stack = vectors[starts[part][:, None] + np.arange(size)]
            if size <= _FEW:
                products = np.einsum("gid,gjd->gij", stack, stack).astype(np.float64)
            else:
                products = (stack @ stack.transpose(0, 2, 1)).astype(np.float64)
            lengths = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
            cosines = products[:, left, right] / (lengths[:, left] * lengths[:, right])
            scores[part] = 100 * np.clip(cosines, 0, 1).mean(axis=1)
    return scores


class Consistency(EmbeddingScorer):
    """The semantic consistency of a prompt's images, from stored embeddings; see `semantic_consistency`.

    Settings:
        encoder: name of the image encoder whose embeddings it takes.
    """

    inputs = PromptGroupBatch
    outputs = (Output("score", "Semantic consistency", 0.0, 100.0),)

    def score(self, batch: PromptGroupBatch) -> Mapping[str, np.ndarray]:
        """Score g prompts by all of their images; NaN for a prompt with fewer than two."""
        return {"score": semantic_consistency(batch.images, batch.groups, len(batch.prompts))}
