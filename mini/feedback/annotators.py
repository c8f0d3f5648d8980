"""Simulated people who label examples: what is known exactly, as three careful annotators would give it.

To see what their noise does to figures: how well their labels agree with the exact truth is what a network that was judged
by such labels could hope for.
"""

import numpy as np
from numpy.typing import NDArray

from mini.scenes import SIDE
from promptroute.core.votes import Marks
from promptroute.feedback.people import place_map

PEOPLE = 3
MISSED_BY = 2.0  # pixels that a click is off, at most, along each axis
CLICK_AREA = 120.0  # pixels of a region that a click stands for
STEPS = 4  # a score is one of 0, 1/4, …, 1
DOUBT = 0.1  # standard deviation of what a person thinks of a score before rounding it

Random = np.random.Generator


def clicks(where: NDArray[np.float64], rng: Random) -> Marks:
    """Return where one person clicks on a map, float64 [64, 64] in 0…1: the higher it is, the likelier."""
    if not where.any():
        return Marks()
    number = int(np.ceil((where > 0.2).sum() / CLICK_AREA)) or 1
    chosen = rng.choice(where.size, number, p=(where / where.sum()).ravel())
    rows, columns = np.divmod(chosen, SIDE)
    places = np.stack([columns, rows], axis=1) + 0.5 + rng.uniform(-MISSED_BY, MISSED_BY, (number, 2))
    return Marks(tuple((float(x), float(y)) for x, y in np.clip(places / SIDE, 0, 1)))


def annotated_map(where: NDArray[np.float64], rng: Random) -> NDArray[np.float64]:
    """Return the map that three people give: the share of them who marked a pixel, float64 [64, 64]."""
    return place_map([clicks(where, rng) for _ in range(PEOPLE)], SIDE)


def annotated_score(score: float, rng: Random) -> float:
    """Return the mean of three people's scores, each rounded to a fourth: a multiple of 1/12 in 0…1."""
    thought = np.clip(score + DOUBT * rng.standard_normal(PEOPLE), 0, 1)
    return float(np.round(STEPS * thought).mean() / STEPS)


def annotate(
    maps: NDArray[np.float64], scores: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Label examples: maps float64 [n, m, 64, 64] and scores float64 [n, s], both 0…1 → the same shapes."""
    given_maps, given_scores = np.empty_like(maps), np.empty_like(scores)
    for index in range(len(maps)):
        rng = np.random.default_rng([seed, index])
        given_maps[index] = [annotated_map(where, rng) for where in maps[index]]
        given_scores[index] = [annotated_score(float(score), rng) for score in scores[index]]
    return given_maps, given_scores
