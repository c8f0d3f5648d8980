"""Nearest neighbours: the mean embedding of the prompts of similar images."""

import numpy as np
from pydantic import Field, PositiveInt

from promptroute.recovery.learners.base import Arrays, Examples, Learner, Scaling, held_out, mean_cosine
from promptroute.recovery.vectors import Views, nearest, unit


class Knn(Learner):
    """Average the prompts' embeddings of the k most similar images, by the cosine of all views side by side.

    Args:
        k: how many, tried in turn; the one with the best mean cosine on held-out images is taken.
        seed: of the groups that are held out.
    """

    k: tuple[PositiveInt, ...] = Field((1, 3, 10, 30, 100), min_length=1, strict=False)
    seed: int = Field(0, ge=0, lt=2**32)

    def _fit(self, examples: Examples, groups: np.ndarray, validation: Examples | None) -> Arrays:
        scaling = Scaling.of(examples.views)
        k = self.k[0]
        if len(self.k) > 1:
            known, judged = held_out(examples, groups, validation, self.seed)
            means = _means(unit(scaling(judged.views)), unit(scaling(known.views)), known.target, self.k)
            k = self.k[int(np.argmax([mean_cosine(mean, judged.target) for mean in means]))]
        return {**scaling._asdict(), "images": unit(scaling(examples.views)), "target": examples.target, "k": np.array([k])}  # fmt: skip

    def _predict(self, views: Views) -> np.ndarray:
        learned = self._arrays
        queries = unit(Scaling(learned["mean"], learned["scale"])(views))
        return _means(queries, learned["images"], learned["target"], (int(learned["k"][0]),))[0]


def _means(
    queries: np.ndarray, images: np.ndarray, target: np.ndarray, ks: tuple[int, ...]
) -> list[np.ndarray]:
    """Average the targets of the nearest images, for each number of them."""
    near, _ = nearest(queries, images, max(ks))
    return [
        np.stack([target[row[:k]].mean(axis=0) for row in near]) if k > 1 else target[near[:, 0]] for k in ks
    ]
