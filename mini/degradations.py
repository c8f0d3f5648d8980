"""Known ways to spoil a picture, and the score that a picture so spoiled is given."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Random = np.random.Generator
Picture = NDArray[np.float64]

BEST, WORST = 9.0, 2.0  # mean score of an unspoiled picture, and of one spoiled wholly
SPREAD = 1.1  # standard deviation of one picture's scores, as if many people had scored it


def blur(picture: Picture, level: float, rng: Random) -> Picture:
    """Gaussian blur, up to 3 pixels wide."""
    return gaussian_filter(picture, (3 * level, 3 * level, 0))


def noise(picture: Picture, level: float, rng: Random) -> Picture:
    """Gaussian noise, up to 60 grey levels."""
    return picture + 60 * level * rng.standard_normal(picture.shape)


def fade(picture: Picture, level: float, rng: Random) -> Picture:
    """Contrast lost towards the mean colour, up to 85 %."""
    return picture + 0.85 * level * (picture.mean(axis=(0, 1)) - picture)


def smear(picture: Picture, level: float, rng: Random) -> Picture:
    """A smooth random shift of every pixel that bends outlines: up to 4 pixels along each axis (standard deviation)."""
    shift = np.stack([gaussian_filter(rng.standard_normal(picture.shape[:2]), 2) for _ in range(2)])
    shift *= 4 * level / shift.std()
    at = np.indices(picture.shape[:2]) + shift
    return np.stack(
        [map_coordinates(picture[..., part], at, order=1, mode="nearest") for part in range(3)], axis=-1
    )


def blocks(picture: Picture, level: float, rng: Random) -> Picture:
    """A mix with the picture's mean over blocks of 8 × 8 pixels, as from strong compression."""
    side = picture.shape[0] // 8
    means = picture.reshape(side, 8, side, 8, 3).mean(axis=(1, 3))
    return picture + level * (np.kron(means, np.ones((8, 8, 1))) - picture)


WAYS: dict[str, Callable[[Picture, float, Random], Picture]] = {
    "blur": blur,
    "noise": noise,
    "fade": fade,
    "smear": smear,
    "blocks": blocks,
}


def degrade(picture: NDArray[np.uint8], way: str, level: float, rng: Random) -> NDArray[np.uint8]:
    """Spoil a picture, uint8 [64, 64, 3], in one of `WAYS`; level 0 (not at all) to 1 (wholly)."""
    spoiled = WAYS[way](picture.astype(float), level, rng)
    return np.clip(np.round(spoiled), 0, 255).astype(np.uint8)


def score_distribution(level: float) -> NDArray[np.float64]:
    """Share of each score 1…10 that a picture spoiled to a level gets, float64 [10], sums to 1.

    A normal distribution cut into ten: its mean falls evenly from `BEST` to `WORST` with the level.
    """
    scores = np.arange(1, 11)
    mean = BEST + (WORST - BEST) * level
    weight = np.exp(-0.5 * ((scores - mean) / SPREAD) ** 2)
    return weight / weight.sum()
