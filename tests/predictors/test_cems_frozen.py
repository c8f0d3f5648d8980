"""CEMS on frozen embeddings."""

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.predictors.cems_frozen import CemsFrozen


def test_learns() -> None:
    random = np.random.default_rng(0)

    def data(n: int) -> tuple[PromptBatch, np.ndarray]:
        vectors = random.normal(size=(n, 8)).astype(np.float32)
        best = (vectors[:, :3].argmax(1) + 1) % 3
        return PromptBatch([f"p{i}" for i in range(n)], {"e": vectors}), np.eye(3)[best]

    train, validation, (test, quality) = data(600), data(200), data(300)
    predicted = CemsFrozen(epochs=30, learning_rate=1e-2).fit(*train, validation).predict(test)
    assert (predicted.argmax(1) == quality.argmax(1)).mean() > 0.9
