"""The cost-quality frontier of a router, its hull, and what is read off it.

Cost is in dollars per image, quality is observed quality (higher is better), both means over the prompts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from promptroute.routing import checks
from promptroute.routing.checks import Array, FloatArray, IntArray
from promptroute.routing.steps import Steps, StepsOf, tradeoff_steps

# Means are sums in different orders: points this close (relative) count as equal when read off a hull.
_ROUNDING = 1e-12
# Points closer than this (relative) are the same: predictions with ties give keys that differ by rounding only.
_SAME_KEY = 1e-9


@dataclass(frozen=True, eq=False)
class Frontier:
    """Mean cost [k] and mean observed quality [k] of a policy at each of its operating points [k].

    Points fall and costs rise (or stay) along the arrays; observed quality may go either way, since the policy
    only sees predictions.
    """

    points: FloatArray
    cost: FloatArray
    quality: FloatArray


def trace(
    predicted: Array,
    true: Array,
    cost: Array,
    at: Array | None = None,
    *,
    steps_of: StepsOf = tradeoff_steps,
    most: int | None = None,
) -> Frontier:
    """Return mean cost and mean observed quality of a policy over its operating points, in O(n m log(n m)).

    `predicted` decides and `true` is what is gained, both [n, m], n >= 1; `cost` [m]. `steps_of` gives the
    policy's steps: its operating point is the tradeoff of `cost_aware` or the slack of `cheapest_within`.

    Without `at` every distinct choice is visited: points are infinity, the midpoints between successive
    breakpoints, and 0, so that the policy at a point makes exactly the choice measured here. `most` (2 or
    more) thins them to so many, evenly by rank, both ends kept. Given `at` (points of 0 or more) are sorted
    downward.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    steps = steps_of(guess, price)
    if at is None:
        values, taken = visits(steps)
        if most is not None:
            if most < 2:
                raise ValueError(f"most is {most}, expected 2 or more")
            keep = np.unique(np.linspace(0, len(values) - 1, most).round().astype(np.int64))
            values, taken = values[keep], taken[keep]
    else:
        given = np.asarray(at, dtype=np.float64)
        if given.ndim != 1 or len(given) == 0 or not (given >= 0).all():
            raise ValueError("operating points must be a non-empty list of numbers of 0 or more")
        values = np.sort(given)[::-1]
        taken = steps.taken(values)
    every = np.broadcast_to(price, truth.shape)
    return Frontier(values, steps.means(every, taken), steps.means(truth, taken))


def visits(steps: Steps) -> tuple[FloatArray, IntArray]:
    """Return an operating point for each distinct choice, falling from infinity to 0, and the steps taken there."""
    key = steps.key
    # A visit follows the last step of each run of equal keys.
    last = np.flatnonzero(key[1:] < key[:-1] * (1 - _SAME_KEY))
    between = (key[last] + key[last + 1]) / 2
    if len(key) == 0:
        return np.array([0.0]), np.array([0])
    return np.concatenate([[np.inf], between, [0.0]]), np.concatenate([[0], last + 1, [len(key)]])


@dataclass(frozen=True, eq=False)
class Hull:
    """Vertices of a non-decreasing concave curve: `cost` [h] and `quality` [h], both strictly rising."""

    cost: FloatArray
    quality: FloatArray


def hull(cost: Array, quality: Array) -> Hull:
    """Return the non-decreasing convex hull of points (cost [k], quality [k]), k >= 1.

    RouterBench (arXiv 2403.12031), section 3: choosing between two routers by the toss of a coin reaches
    every point on the line between them, so the upper hull from the cheapest point to the best one is
    attainable. To the right of the best point it goes on flat: more money needn't be spent. To the left of
    the cheapest point it is undefined here (NaN): RouterBench puts a null router of no cost and no quality
    at the origin, but 0 is not on the scale of our scores and an image must be generated.
    """
    x, y = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"cost has shape {x.shape} and quality {y.shape}, expected two lists of one length")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("cost and quality must be finite")
    order = np.lexsort((-y, x))
    xs: list[float] = []
    ys: list[float] = []
    for u, v in zip(x[order].tolist(), y[order].tolist(), strict=True):
        # Sorted by cost, a point that isn't better than the last vertex can't rise above the curve.
        if ys and v <= ys[-1]:
            continue
        # The last vertex goes where it lies on or below the line from the one before it to the new point.
        while len(xs) > 1 and (ys[-1] - ys[-2]) * (u - xs[-2]) <= (v - ys[-2]) * (xs[-1] - xs[-2]):
            xs.pop()
            ys.pop()
        xs.append(u)
        ys.append(v)
    return Hull(np.array(xs), np.array(ys))


def quality_at(hull: Hull, cost: float) -> float:
    """Return the hull's quality at a mean cost in dollars: flat to the right, NaN left of all points."""
    if not cost >= hull.cost[0] * (1 - _ROUNDING):
        return float("nan")
    return float(np.interp(cost, hull.cost, hull.quality))


def cost_at(hull: Hull, quality: float) -> float:
    """Return the least mean cost in dollars at which the hull reaches `quality`; NaN where it never does.

    A quality below the cheapest point's costs what that point costs.
    """
    if not quality <= hull.quality[-1] + _ROUNDING * max(1.0, abs(quality)):
        return float("nan")
    return float(np.interp(quality, hull.quality, hull.cost))


def area(hull: Hull, low: float, high: float) -> float:
    """Return the hull's mean quality over mean costs from `low` to `high` dollars (low < high).

    integral of quality_at over [low, high] / (high - low): RouterBench's AIQ. NaN where `low` is left of
    the hull's cheapest point. To compare routers use one range for all, such as the cheapest to the
    most expensive model's cost.
    """
    if not low < high:
        raise ValueError(f"the cost range is [{low}, {high}], expected low below high")
    if not low >= hull.cost[0] * (1 - _ROUNDING):
        return float("nan")
    inner: Iterable[float] = hull.cost[(hull.cost > low) & (hull.cost < high)]
    x = np.array([low, *inner, high])
    return float(np.trapezoid(np.interp(x, hull.cost, hull.quality), x) / (high - low))
