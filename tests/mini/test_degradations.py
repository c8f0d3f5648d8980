"""Degradations of known kind and level."""

import numpy as np
import pytest

from mini.captions import sample_captions
from mini.degradations import BEST, DEGRADATIONS, WORST, degrade, local, score_distribution
from mini.scenes import render

IMAGES = [render(caption.scene) for caption in sample_captions("narratives", 6, seed=3)]


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_distance_grows_with_level(kind: str) -> None:
    for image in IMAGES:
        assert np.array_equal(degrade(image, kind, 0.0, np.random.default_rng(0)), image)
        distances = [
            np.abs(degrade(image, kind, level, np.random.default_rng(0)).astype(int) - image).mean()
            for level in np.linspace(0, 1, 6)
        ]
        assert np.all(np.diff(distances) > 0), distances


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_local(kind: str) -> None:
    """Outside of the mask nothing changes; where it is 1, as the whole image would."""
    image = IMAGES[0]
    mask = np.zeros(image.shape[:2])
    mask[20:40, 10:50] = 1
    spoiled = local(image, kind, 0.8, mask, np.random.default_rng(1))
    assert np.array_equal(spoiled[mask == 0], image[mask == 0])
    whole = degrade(image, kind, 0.8, np.random.default_rng(1))
    assert np.array_equal(spoiled[mask == 1], whole[mask == 1])


def test_score_distributions() -> None:
    scores = np.arange(1, 11)
    levels = np.linspace(0, 1, 11)
    shares = np.array([score_distribution(level) for level in levels])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    means = shares @ scores
    assert np.all(np.diff(means) < 0)
    np.testing.assert_allclose(means[2:9], (BEST + (WORST - BEST) * levels)[2:9], atol=0.05)
    assert score_distribution(0.5).argmax() in (4, 5)  # mean 5.5: five and six equally
