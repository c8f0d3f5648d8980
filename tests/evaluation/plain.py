"""The headline figures without the bootstrap's shortcuts: one frontier, its hull, and what is read off it.

`options` are those of `promptroute.routing.frontier.trace`.
"""

from typing import Any

from promptroute.evaluation.metrics import area_on, gap_closed, iso_cost_on
from promptroute.routing import checks
from promptroute.routing.checks import Array
from promptroute.routing.frontier import hull, quality_at, trace


def _figures(predicted: Array, true: Array, cost: Array, **options: Any) -> dict[str, float]:
    guess, truth, price = checks.evaluation(predicted, true, cost)
    curve = trace(guess, truth, price, **options)
    edge, model = hull(curve.cost, curve.quality), checks.best_single(truth)
    alone, alone_cost = float(truth[:, model].mean()), float(price[model])
    return {
        "iso": iso_cost_on(edge, alone, alone_cost),
        "gap": float(gap_closed(quality_at(edge, alone_cost), alone, truth.max(axis=1).mean())),
        "area": area_on(edge, price),
    }


def iso_quality_cost(*arrays: Array, **options: Any) -> float:
    """Return the least cost of the best single model's mean quality, relative to that model, less 1."""
    return _figures(*arrays, **options)["iso"]


def oracle_gap_closed(*arrays: Array, **options: Any) -> float:
    """Return how far the router gets from the best single model to the oracle at no more than its cost."""
    return _figures(*arrays, **options)["gap"]


def frontier_area(*arrays: Array, **options: Any) -> float:
    """Return the mean quality of the frontier's hull from the cheapest to the most expensive model's cost."""
    return _figures(*arrays, **options)["area"]
