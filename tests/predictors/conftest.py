"""A small made-up routing problem, and a tiny CLIP."""

from collections.abc import Callable

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from tests.encoders.conftest import tiny_clip

__all__ = ["problem", "tiny_clip"]

WORDS = ["red", "blue", "cat", "dog", "tree", "boat", "house", "cloud", "portrait", "oil", "neon", "tiny"]
Problem = tuple[PromptBatch, np.ndarray]


@pytest.fixture(scope="session")
def problem() -> Callable[..., Problem]:
    """(n=…, seed=…, m=…) → prompts with two encoders' embeddings, and quality [n, m].

    Model 0 is better at "red" prompts, model 1 at others; the rest depends on the embeddings, with noise.
    """

    def make(n: int = 80, seed: int = 0, m: int = 3) -> Problem:
        random = np.random.default_rng(seed)
        texts = [" ".join(random.choice(WORDS, random.integers(2, 9))) for _ in range(n)]
        embeddings = {
            "one": random.normal(size=(n, 6)).astype(np.float32),
            "two": random.normal(size=(n, 4)).astype(np.float32),
        }
        slopes = np.random.default_rng(99).normal(size=(6, m))
        quality = 5 + random.normal(size=(n, 1)) + 0.3 * random.normal(size=(n, m))
        quality += embeddings["one"] @ slopes * 0.3
        quality[:, 0] += np.where(["red" in text for text in texts], 1.0, -1.0)
        return PromptBatch(texts, embeddings), quality

    return make
