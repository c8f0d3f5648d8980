"""Spoiling pictures in known ways."""

import numpy as np
import pytest

from mini.captions import draw_captions
from mini.degradations import BEST, WAYS, WORST, degrade, score_distribution
from mini.scenes import draw

PICTURES = [draw(caption.scene) for caption in draw_captions("narratives", 6, seed=3)]


@pytest.mark.parametrize("way", WAYS)
def test_the_further_the_level_the_further_from_the_picture(way: str) -> None:
    for picture in PICTURES:
        assert np.array_equal(degrade(picture, way, 0.0, np.random.default_rng(0)), picture)
        away = [
            np.abs(degrade(picture, way, level, np.random.default_rng(0)).astype(int) - picture).mean()
            for level in np.linspace(0, 1, 6)
        ]
        assert np.all(np.diff(away) > 0), away


def test_scores_fall_evenly_and_are_distributions() -> None:
    scores = np.arange(1, 11)
    levels = np.linspace(0, 1, 11)
    shares = np.array([score_distribution(level) for level in levels])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    means = shares @ scores
    assert np.all(np.diff(means) < 0)
    np.testing.assert_allclose(means[2:9], (BEST + (WORST - BEST) * levels)[2:9], atol=0.05)
    assert score_distribution(0.5).argmax() in (4, 5)  # mean 5.5: five and six alike
