"""Setting an operating point on prompts that judge nothing, for a stated target."""

import numpy as np

from promptroute.routing import checks
from promptroute.routing.base import Calibration
from promptroute.routing.checks import BoolArray, FloatArray, IntArray
from promptroute.routing.frontier import visits
from promptroute.routing.steps import Steps, StepsOf

# Means along the frontier are running sums: constraints hold up to this (relative) rounding.
_ROUNDING = 1e-9
REASON = {
    "quality": "least cost at the best single model's quality",
    "cost": "most quality at no more than the best single model's cost",
    "budget": "most quality within the budget",
}


def set_point(
    steps_of: StepsOf,
    predicted: FloatArray,
    observed: FloatArray,
    cost: FloatArray,
    target: str,
    standard_errors: float = 0.0,
    budget: float | None = None,
    *,
    single: int | None = None,
) -> tuple[float | None, Calibration]:
    """Find the operating point on calibration prompts: `predicted` and `observed` quality [n, m], `cost` [m].

    target "quality": the least mean cost among points whose mean observed quality is at least the best single
    model's, plus `standard_errors` (0 or more) of the mean difference to it, paired by prompt. The least cost
    of many is a lucky one, so that without these new prompts fall short about half the time.
    target "cost": the highest mean observed quality among points whose mean cost is at most `budget`, or where that is
    None the best single model's.

    Every distinct choice is tried; among equals the cheaper is taken. Where no point meets the target, or
    the best single model itself does so at less cost (or with more quality), the point is None and `reached`
    False: that model is the choice. The best single model is found on these prompts unless `single` names it.
    """
    model, steps = checks.best_single(observed, single), steps_of(predicted, cost)
    points, taken = visits(steps)
    # The choice at infinity is that at any point above the first breakpoint: keep the record finite.
    points = np.where(np.isinf(points), 2 * steps.key[:1].sum(), points)
    lead = observed - observed[:, [model]]
    mean_cost = steps.means(np.broadcast_to(cost, observed.shape), taken)
    gain = steps.means(lead, taken)
    single_cost, single_quality = float(cost[model]), float(observed[:, model].mean())
    scale, limit = _ROUNDING * float(np.abs(observed).max()), single_cost if budget is None else budget
    good = gain >= -scale if budget is None else np.ones(len(gain), bool)
    if target == "quality":
        good = gain >= standard_errors * _error(steps, lead, gain, taken) - scale
    order = np.lexsort((-gain, mean_cost) if target == "quality" else (mean_cost, -gain))
    fits = good & (mean_cost <= limit * (1 + _ROUNDING))
    place = next((int(k) for k in order if fits[k]), None)
    reached = place is not None
    facts = Calibration(
        prompts=len(observed),
        quality=single_quality if place is None else single_quality + float(gain[place]),
        cost=single_cost if place is None else float(mean_cost[place]),
        single=model,
        single_quality=single_quality,
        single_cost=single_cost,
        mean_quality=observed.mean(axis=0).tolist(),
        reached=reached,
        reason=REASON[target if budget is None else "budget"]
        if reached
        else f"{_fault(target, budget, standard_errors, good)}, so every prompt goes to the best single model",
    )
    return (None if place is None else float(points[place])), facts


def _fault(target: str, budget: float | None, standard_errors: float, good: BoolArray) -> str:
    """Say why no point fits; `good`: those whose quality is enough."""
    if budget is not None:
        return "every model costs more than the budget"
    if target == "cost":
        return "at no more than the best single model's cost no operating point matches its quality"
    if good.any():
        return "the best single model's quality is reached only at more than that model's cost"
    by = f" by {standard_errors:g} standard errors" if standard_errors else ""
    return f"no operating point reaches the best single model's quality{by}"


def _error(steps: Steps, lead: FloatArray, gain: FloatArray, taken: IntArray) -> FloatArray:
    """Return the standard error of the mean lead at each point."""
    variance = steps.means(lead**2, taken) - gain**2
    # A difference of running sums: what is left of equal leads is rounding, whose root would count.
    variance = np.where(variance > 1e-12 * float((lead**2).max()), variance, 0.0)
    # With one prompt the spread is unknown; 0 then, as for identical prompts.
    return np.asarray(np.sqrt(variance / max(len(lead) - 1, 1)))
