"""Known degradations of images, and the score that a degraded image is given."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Random = np.random.Generator
Image = NDArray[np.float64]

BEST, WORST = 9.0, 2.0  # mean score of an intact and of a fully degraded image
SPREAD = 1.1  # standard deviation of an image's scores, as if many people had rated it


def blur(image: Image, level: float, rng: Random) -> Image:
    """Blur with a Gaussian of up to 3 pixels."""
    return gaussian_filter(image, (3 * level, 3 * level, 0))


def noise(image: Image, level: float, rng: Random) -> Image:
    """Add Gaussian noise of up to 60 grey levels."""
    return image + 60 * level * rng.standard_normal(image.shape)


def fade(image: Image, level: float, rng: Random) -> Image:
    """Lower the contrast towards the mean colour by up to 85 %."""
    return image + 0.85 * level * (image.mean(axis=(0, 1)) - image)


def smear(image: Image, level: float, rng: Random) -> Image:
    """Shift pixels by a smooth random field that bends outlines: up to 4 pixels along each axis (standard deviation)."""
    shift = np.stack([gaussian_filter(rng.standard_normal(image.shape[:2]), 2) for _ in range(2)])
    shift *= 4 * level / shift.std()
    at = np.indices(image.shape[:2]) + shift
    return np.stack(
        [map_coordinates(image[..., part], at, order=1, mode="nearest") for part in range(3)], axis=-1
    )


def blocks(image: Image, level: float, rng: Random) -> Image:
    """Mix with the means of blocks of 8 × 8 pixels, as strong compression does."""
    side = image.shape[0] // 8
    means = image.reshape(side, 8, side, 8, 3).mean(axis=(1, 3))
    return image + level * (np.kron(means, np.ones((8, 8, 1))) - image)


DEGRADATIONS: dict[str, Callable[[Image, float, Random], Image]] = {
    "blur": blur,
    "noise": noise,
    "fade": fade,
    "smear": smear,
    "blocks": blocks,
}


def degrade(image: NDArray[np.uint8], name: str, level: float, rng: Random) -> NDArray[np.uint8]:
    """Degrade an image, uint8 [64, 64, 3], by one of `DEGRADATIONS`; level 0 (intact) to 1 (fully)."""
    degraded = DEGRADATIONS[name](image.astype(float), level, rng)
    return np.clip(np.round(degraded), 0, 255).astype(np.uint8)


def local(image: NDArray[np.uint8], way: str, level: float, mask: Image, rng: Random) -> NDArray[np.uint8]:
    """Degrade a place of an image, uint8 [64, 64, 3], by one of `DEGRADATIONS`.

    Args:
        image: what is degraded.
        way: key of `DEGRADATIONS`.
        level: 0 (intact) to 1 (fully).
        mask: how much of the degradation each pixel gets, 0 to 1, float64 [64, 64].
        rng: source of the randomness.
    """
    intact = image.astype(float)
    mixed = intact + mask[..., None] * (DEGRADATIONS[way](intact, level, rng) - intact)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def score_distribution(level: float) -> NDArray[np.float64]:
    """Return the share of each score 1…10 that an image degraded to a level gets, float64 [10], sums to 1.

    A discretised normal distribution: its mean falls linearly from `BEST` to `WORST` with the level.
    """
    scores = np.arange(1, 11)
    mean = BEST + (WORST - BEST) * level
    weight = np.exp(-0.5 * ((scores - mean) / SPREAD) ** 2)
    return weight / weight.sum()
