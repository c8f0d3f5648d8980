"""Choosing a policy's knob on validation prompts, for a stated target."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from promptroute.core.errors import UserError
from promptroute.routing import checks, policies
from promptroute.routing.checks import IntArray
from promptroute.routing.frontier import visits
from promptroute.routing.steps import Policy, steps_of

Target = Literal["quality", "cost"]

# Means along the frontier are running sums: constraints hold up to this (relative) rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Calibration:
    """A policy with its knob set: `decide` applies it to new prompts. All fields are plain and finite.

    `policy` is "cost_aware" or "cheapest_within" with `knob` (lambda in quality per dollar, or epsilon in
    quality), or "single" with `knob` None where the target can't be met better than by the best single
    model; `reached` then is False, and `reason` says why in any case. `quality` and `cost` (dollars per
    image) are means on the validation prompts, as are those of the best single model, column `single`.
    `margin` is in standard errors (see `choose`); `favour` in units of quality, is added to the predicted
    quality of column `single` before the policy decides (see `policies.favoured`).
    """

    policy: Literal["cost_aware", "cheapest_within", "single"]
    knob: float | None
    target: Target
    reached: bool
    reason: str
    quality: float
    cost: float
    single: int
    single_quality: float
    single_cost: float
    margin: float
    prompts: int
    favour: float = 0.0

    def decide(self, quality: npt.ArrayLike, cost: npt.ArrayLike) -> IntArray:
        """Return the choice [n] for predicted quality [n, m] and cost [m]."""
        if self.knob is None:
            return policies.single(quality, cost, model=self.single)
        return self.apply(policies.favoured(quality, model=self.single, margin=self.favour), cost)

    def apply(self, quality: npt.ArrayLike, cost: npt.ArrayLike) -> IntArray:
        """Return the choice [n] by the knob alone, which must not be None; `quality` is favoured already."""
        assert self.knob is not None
        if self.policy == "cost_aware":
            return policies.cost_aware(quality, cost, tradeoff=self.knob)
        return policies.cheapest_within(quality, cost, slack=self.knob)


def choose(
    policy: Policy,
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    cost: npt.ArrayLike,
    target: Target,
    *,
    margin: float = 0.0,
    single: int | None = None,
) -> Calibration:
    """Set the knob of `policy` on validation prompts: `predicted` and `true` quality [n, m], `cost` [m].

    target "quality": the least mean cost among knobs whose mean true quality is at least the best single
    model's, plus `margin` (0 or more) standard errors of the mean difference to it, paired by prompt. The
    least cost of many is a lucky one, so that without a margin new prompts fall short about half the time.
    target "cost": the highest mean true quality among knobs whose mean cost is at most the best single
    model's; takes no margin.

    Every distinct choice is tried; among equals the cheaper is taken. Where no knob meets the target, or
    the best single model itself does so at less cost (or with more quality), the result is that model with
    `reached` False. The best single model is found on these prompts unless `single` names one.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    margin = checks.knob(margin, "margin")
    if target not in ("quality", "cost"):
        raise UserError(f"target is {target!r}, expected 'quality' or 'cost'")
    if target == "cost" and margin:
        raise UserError(f"margin is {margin} for target 'cost', expected 0: it makes only 'quality' safer")
    model = checks.best_single(truth, single)
    steps = steps_of(policy, guess, price)
    knobs, taken = visits(steps)
    # The choice at infinity is that at any knob above the first breakpoint: keep the record finite.
    knobs = np.where(np.isinf(knobs), 2 * steps.key[:1].sum(), knobs)
    lead = truth - truth[:, [model]]
    mean_cost = steps.means(np.broadcast_to(price, truth.shape), taken)
    gain = steps.means(lead, taken)
    single_cost, single_quality = float(price[model]), float(truth[:, model].mean())
    scale = _ROUNDING * float(np.abs(truth).max())
    affordable = mean_cost <= single_cost * (1 + _ROUNDING)
    if target == "quality":
        variance = steps.means(lead**2, taken) - gain**2
        # A difference of running sums: what is left of equal leads is rounding, whose root would count.
        variance = np.where(variance > 1e-12 * float((lead**2).max()), variance, 0.0)
        # With one prompt the spread is unknown; 0 then, as for identical prompts.
        error = np.sqrt(variance / max(len(truth) - 1, 1))
        good = gain >= margin * error - scale
        fits = good & affordable
        order = np.lexsort((-gain, mean_cost))
        why = "no knob reaches the best single model's quality" + (
            "" if margin == 0 else f" by {margin:g} standard errors"
        )
        if good.any():
            why = "the best single model's quality is reached only at more than that model's cost"
    else:
        fits = affordable & (gain >= -scale)
        order = np.lexsort((mean_cost, -gain))
        why = "at no more than the best single model's cost no knob matches its quality"
    place = next((int(k) for k in order if fits[k]), None)
    common = (model, single_quality, single_cost, margin, len(truth))
    if place is None:
        reason = f"{why}, so every prompt goes to the best single model"
        return Calibration("single", None, target, False, reason, single_quality, single_cost, *common)
    reason = {
        "quality": "least cost at the best single model's quality",
        "cost": "most quality at no more than the best single model's cost",
    }[target]
    quality = single_quality + float(gain[place])
    knob, spent = float(knobs[place]), float(mean_cost[place])
    return Calibration(policy, knob, target, True, reason, quality, spent, *common)


def favouring(
    calibration: Calibration,
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    cost: npt.ArrayLike,
    favour: float,
) -> Calibration:
    """Return the calibration with `favour` (0 or more, units of quality), its means those of these prompts.

    The knob stays as it is: were it chosen with `favour` in place, a higher lambda would just undo that.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    careful = replace(calibration, favour=checks.knob(favour, "margin"))
    choice = careful.decide(guess, price)
    quality = float(truth[np.arange(len(truth)), choice].mean())
    return replace(careful, quality=quality, cost=float(price[choice].mean()))
