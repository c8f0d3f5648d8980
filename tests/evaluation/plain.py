"""The headline figures without the bootstrap's shortcuts: one frontier, its hull, and what is read off it."""

from promptroute.evaluation.metrics import area_on, gap_closed, iso_cost_on
from promptroute.routing import checks
from promptroute.routing.checks import Array, FloatArray
from promptroute.routing.frontier import Hull, hull, quality_at, trace
from promptroute.routing.steps import StepsOf, tradeoff_steps


def _hull(
    predicted: FloatArray, true: FloatArray, cost: FloatArray, steps_of: StepsOf, most: int | None
) -> Hull:
    curve = trace(predicted, true, cost, steps_of=steps_of, most=most)
    return hull(curve.cost, curve.quality)


def iso_quality_cost(
    predicted: Array,
    true: Array,
    cost: Array,
    *,
    single: int | None = None,
    steps_of: StepsOf = tradeoff_steps,
    most: int | None = None,
) -> float:
    """Return the least cost of the best single model's mean quality, relative to that model, less 1.

    cost_at(hull, quality of single) / cost of single - 1, on the hull of the policy's frontier: -0.25 is
    25 % cheaper, lower is better; NaN where the router never reaches that quality. The point on the
    frontier is read off these very prompts; `calibrate` sets operating points ahead, on validation.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    model = checks.best_single(truth, single)
    curve = _hull(guess, truth, price, steps_of, most)
    return iso_cost_on(curve, float(truth[:, model].mean()), float(price[model]))


def oracle_gap_closed(
    predicted: Array,
    true: Array,
    cost: Array,
    *,
    single: int | None = None,
    steps_of: StepsOf = tradeoff_steps,
    most: int | None = None,
) -> float:
    """Return how far the router gets from the best single model to the oracle at no more than its cost.

    (quality_at(hull, cost of single) - quality of single) / (quality of the oracle - quality of single):
    1 is the oracle, 0 the best single model, below 0 worse than that. The oracle takes each prompt's best
    model whatever it costs. NaN where the oracle is hardly better than the best single model (`gap_closed`).
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    model = checks.best_single(truth, single)
    reached = quality_at(_hull(guess, truth, price, steps_of, most), float(price[model]))
    return float(gap_closed(reached, truth[:, model].mean(), truth.max(axis=1).mean()))


def frontier_area(
    predicted: Array, true: Array, cost: Array, *, steps_of: StepsOf = tradeoff_steps, most: int | None = None
) -> float:
    """Return the mean quality of the frontier's hull from the cheapest to the most expensive model's cost.

    `frontier.area`, in units of quality, higher is better; with one price for all models, the hull's quality.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    return area_on(_hull(guess, truth, price, steps_of, most), price)
