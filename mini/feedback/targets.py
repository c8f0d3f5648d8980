"""What the auxiliary heads of the feedback network learn of a scene's patches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini.feedback.examples import VALUES, cover
from mini.scenes import SIDE, Scene

PATCH = 8
GRID = SIDE // PATCH
UNSEEN = 255
"""The number of a value that is none of `VALUES`, such as a shape that the checker doesn't know."""
THING = ("colour", "shape", "size", "texture")
CLASSES = [1 + len(VALUES[part]) for part in THING]
_NUMBERS = {part: {value: 1 + index for index, value in enumerate(VALUES[part])} for part in THING}


def in_patches(pixels: NDArray[Any]) -> NDArray[Any]:
    """Cut [..., 64, 64] into patches, row after row: [..., 64, 64], the last axis a patch's pixels."""
    *n, _, _ = pixels.shape
    cut = pixels.reshape(*n, GRID, PATCH, GRID, PATCH)
    return np.moveaxis(cut, -3, -2).reshape(*n, GRID * GRID, PATCH * PATCH)


def targets_of(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Say what covers a scene's patches.

    Returns:
        uint8 [4, 64], the number of each `THING`'s value (or `UNSEEN`) where a thing covers a quarter or more of a patch,
        else 0; and how much of each pixel things cover, uint8 [64, 64], 255 for 1, as `in_patches`.
    """
    numbers, covers = np.zeros((len(THING), GRID * GRID), np.uint8), np.zeros((SIDE, SIDE))
    for item in scene.objects:
        own = cover(item)
        values = [_NUMBERS[part].get(getattr(item, part), UNSEEN) for part in THING]
        numbers[:, in_patches(own).mean(axis=1) >= 0.25] = np.array(values, np.uint8)[:, None]
        covers = np.maximum(covers, own)
    return numbers, in_patches(np.round(255 * covers).astype(np.uint8))
