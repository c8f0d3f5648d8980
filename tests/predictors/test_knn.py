"""Nearest neighbours by hand."""

import numpy as np

from promptroute.core.batch import PromptBatch
from promptroute.predictors.features import Features
from promptroute.predictors.knn import Knn, _neighbour_means


def test_neighbour_means() -> None:
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    y = np.array([[1.0], [2.0], [6.0]])
    means = _neighbour_means(np.array([[1, 0], [0, 1]], np.float32), rows, y, [1, 2, 3])
    assert means[..., 0].tolist() == [[1, 6], [1.5, 4], [3, 3]]


def test_finds_itself() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 5)).astype(np.float32)
    quality = random.normal(size=(30, 2))
    prompts = PromptBatch([f"prompt {i}" for i in range(30)], {"e": vectors})
    features = Features(words=False, statistics=False)
    predicted = Knn(features=features, neighbours=[1]).fit(prompts, quality).predict(prompts)
    np.testing.assert_allclose(predicted, quality)  # its own nearest neighbour
    everyone = Knn(features=features, neighbours=[10**6]).fit(prompts, quality).predict(prompts)
    np.testing.assert_allclose(everyone, np.tile(quality.mean(0), (30, 1)))
