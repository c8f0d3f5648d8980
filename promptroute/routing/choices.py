"""Rules of choice: pure functions (quality [n, m], cost [m], setting) -> the chosen column per prompt, int64 [n].

`quality` is predicted quality (with the observed quality `best_predicted` is the oracle), higher is better;
`cost` is dollars per image. Both are checked: ValueError on a wrong shape, NaN, or a price of 0 or less.
Ties, exact in floating point: the cheaper model, then the better predicted, then the lower column.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from promptroute.core.errors import UserError
from promptroute.routing import checks
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.frontier import trace
from promptroute.routing.steps import tradeoff_steps

# Sums of the same prices in another order differ in their last digits; a budget of exactly n images must do.
_ROUNDING = 1e-12


def single(quality: Array, cost: Array, *, model: int) -> IntArray:
    """Choose column `model` for every prompt."""
    quality, cost = checks.quality_and_cost(quality, cost)
    return np.full(len(quality), checks.column(model, len(cost)), dtype=np.int64)


def random_choice(quality: Array, cost: Array, *, seed: int) -> IntArray:
    """Choose each prompt's model evenly at random, by numpy's default generator with `seed`."""
    quality, cost = checks.quality_and_cost(quality, cost)
    return np.random.default_rng(seed).integers(len(cost), size=len(quality), dtype=np.int64)


def best_predicted(quality: Array, cost: Array) -> IntArray:
    """Choose argmax_j quality[i, j]: the choice of Lee & Lee, CIKM '24; the oracle on observed quality."""
    return cost_aware(quality, cost, tradeoff=0.0)


def cost_aware(quality: Array, cost: Array, *, tradeoff: float) -> IntArray:
    """Choose argmax_j quality[i, j] - tradeoff * cost[j].

    `tradeoff` (lambda) is in units of quality per dollar, 0 or more: 0 is `best_predicted`, and infinity
    the cheapest model (of several equally cheap ones the better predicted).
    """
    quality, cost = checks.quality_and_cost(quality, cost)
    tradeoff = checks.nonnegative(tradeoff, "tradeoff")
    if np.isinf(tradeoff):
        return _cheapest(quality, cost, np.ones(quality.shape, bool))
    return _argmax(quality - tradeoff * cost, cost)


def cheapest_within(quality: Array, cost: Array, *, slack: float) -> IntArray:
    """Choose the cheapest j with max_k quality[i, k] - quality[i, j] <= slack.

    `slack` (epsilon) is in units of quality, 0 or more: 0 is `best_predicted`, infinity the cheapest model.
    """
    quality, cost = checks.quality_and_cost(quality, cost)
    gap = quality.max(axis=1, keepdims=True) - quality
    return _cheapest(quality, cost, gap <= checks.nonnegative(slack, "slack"))


def with_margin(quality: Array, *, model: int, margin: float) -> FloatArray:
    """Return predicted quality [n, m] with `margin` added to column `model`, for any rule to decide on.

    So `cost_aware` leaves `model` only where the gain in quality - tradeoff * cost is predicted above
    `margin` (0 or more, finite, units of quality), and `cheapest_within` counts a loss against it so much
    higher. Predicted gains are noisy, and the largest of them are the luckiest.
    """
    quality = checks.quality_matrix(quality)
    margin = checks.nonnegative(margin, "margin")
    if np.isinf(margin):
        raise UserError("margin is infinite, expected a finite number; choose a single model instead")
    if margin == 0:
        return quality
    credited = quality.copy()
    credited[:, checks.column(model, quality.shape[1])] += margin
    return credited


def cheapest_guaranteed(quality: Array, cost: Array, *, single: int, threshold: float | None) -> IntArray:
    """Choose the cheapest of `single` and each cheaper j with a predicted margin above the threshold:

    quality[i, j] - quality[i, single] > threshold

    `threshold` is in units of quality and comes from `guarantees.calibrate`; None means that no cheaper
    model may be chosen at all.
    """
    quality, cost = checks.quality_and_cost(quality, cost)
    single = checks.column(single, len(cost), "single")
    allowed = np.zeros(quality.shape, bool)
    if threshold is not None:
        if np.isnan(threshold):
            raise ValueError("threshold is NaN, expected a number or None")
        allowed = (quality - quality[:, [single]] > threshold) & (cost < cost[single])
    allowed[:, single] = True
    return _cheapest(quality, cost, allowed)


@dataclass(frozen=True, eq=False)
class BudgetPlan:
    """A batch under a budget. Quality is as predicted, summed over the prompts; cost and budget in dollars.

    `choice` [n]; `quality` and `cost` are its totals; `upper_bound` is the optimum of the linear relaxation,
    which no choice within the budget exceeds, so this one is at most `gap` from the best.
    """

    choice: IntArray
    quality: float
    cost: float
    budget: float
    upper_bound: float

    @property
    def gap(self) -> float:
        """Return upper_bound - quality, 0 or more up to rounding, below the largest single upgrade."""
        return self.upper_bound - self.quality


def plan_budget(quality: Array, cost: Array, *, budget: float) -> BudgetPlan:
    """Choose for the best total quality at a total cost of at most `budget` dollars.

    This is the multiple-choice knapsack:

    maximise sum_i quality[i, c_i]  subject to  sum_i cost[c_i] <= budget

    The linear relaxation is solved exactly: start from the cheapest models and buy the hull's increments
    (`steps.tradeoff_steps`) by falling quality per dollar; only the increment at the budget's edge is
    fractional (Sinha & Zoltners 1979; Kellerer, Pferschy & Pisinger, Knapsack Problems, ch. 11). Leaving
    that one out costs less than its gain; later increments that still fit are then bought.

    The total stays within the budget up to a relative 1e-12 of rounding.
    Raises ValueError where the budget doesn't pay for the cheapest model on every prompt.
    """
    quality, cost = checks.quality_and_cost(quality, cost)
    budget = checks.nonnegative(budget, "budget")
    limit = budget * (1 + _ROUNDING)
    rows = np.arange(len(quality))
    least = len(quality) * float(cost.min())
    if least > limit:
        raise ValueError(
            f"a budget of {budget:g} dollars doesn't pay for {len(quality)} prompts: "
            f"the cheapest model costs {least:g}; raise the budget or send fewer prompts"
        )
    steps = tradeoff_steps(quality, cost)
    price = cost[steps.target] - cost[steps.source]
    gain = quality[steps.prompt, steps.target] - quality[steps.prompt, steps.source]
    spent = least + np.concatenate([[0.0], np.cumsum(price)])
    taken = int(np.searchsorted(spent, limit, side="right")) - 1
    choice = steps.choice(taken)
    upper_bound = float(quality[rows, choice].sum())
    if taken < len(price):
        upper_bound += float(gain[taken] * max(budget - spent[taken], 0.0) / price[taken])
    left = limit - spent[taken]
    least_ahead = np.minimum.accumulate(price[::-1])[::-1]
    for step in range(taken, len(price)):
        if least_ahead[step] > left:
            break
        # A prompt whose earlier increment was left out can't take its later ones.
        if price[step] <= left and choice[steps.prompt[step]] == steps.source[step]:
            choice[steps.prompt[step]] = steps.target[step]
            left -= price[step]
    total = float(quality[rows, choice].sum())
    return BudgetPlan(choice, total, float(cost[choice].sum()), budget, upper_bound)


def under_budget(quality: Array, cost: Array, *, budget: float) -> IntArray:
    """Return the choice of `plan_budget`: best total quality within `budget` dollars for the whole batch."""
    return plan_budget(quality, cost, budget=budget).choice


@dataclass(frozen=True)
class BudgetState:
    """A running budget: `remaining` dollars for the `prompts` that are still to come."""

    remaining: float
    prompts: int


@dataclass(frozen=True, eq=False)
class BudgetedStream:
    """Spend a budget on prompts that come one by one.

    At every prompt the price lambda is solved again: the lowest at which prompts like the reference ones
    would cost no more on average than what remains per prompt. Overspending raises lambda, thrift lowers
    it. Models that wouldn't leave enough for the cheapest model on all later prompts are left out, so the
    budget holds whatever comes. Built by `fit`; `step` is pure, the state goes in and comes out.

    `cost` [m] dollars; `tradeoffs` [k] falling from infinity to 0; `mean_cost` [k] rising, dollars per image.
    """

    cost: FloatArray
    tradeoffs: FloatArray
    mean_cost: FloatArray

    @classmethod
    def fit(cls, predicted: Array, cost: Array) -> "BudgetedStream":
        """Learn how lambda sets the mean cost, from `predicted` [n, m], n >= 1, of validation prompts."""
        curve = trace(predicted, predicted, cost)
        return cls(np.asarray(cost, dtype=np.float64), curve.points, curve.cost)

    def start(self, budget: float, prompts: int) -> BudgetState:
        """Return the first state: `budget` dollars for `prompts` prompts; ValueError where too little."""
        least = prompts * float(self.cost.min())
        if prompts < 1 or not budget * (1 + _ROUNDING) >= least:
            raise ValueError(
                f"a budget of {budget} dollars for {prompts} prompts: expected at least one prompt and "
                f"{least:g} dollars, the price of the cheapest model on each"
            )
        return BudgetState(float(budget), int(prompts))

    def step(self, state: BudgetState, quality: Array) -> tuple[BudgetState, int]:
        """Choose for one prompt with predicted quality [m]: return the next state and the chosen column."""
        if state.prompts < 1:
            raise ValueError("the running budget was started for fewer prompts; start a new one")
        row = checks.quality_matrix(np.asarray(quality, dtype=np.float64)[None])
        cheapest = float(self.cost.min())
        # Written in excess of the cheapest model, so that rounding can't rule that one out.
        spare = max(state.remaining - state.prompts * cheapest, 0.0)
        rate = cheapest + spare / state.prompts
        place = max(int(np.searchsorted(self.mean_cost, rate, side="right")) - 1, 0)
        affordable = np.flatnonzero(self.cost - cheapest <= spare)
        chosen = cost_aware(row[:, affordable], self.cost[affordable], tradeoff=self.tradeoffs[place])
        model = int(affordable[chosen[0]])
        return BudgetState(state.remaining - float(self.cost[model]), state.prompts - 1), model

    def run(self, state: BudgetState, quality: Array) -> tuple[BudgetState, IntArray]:
        """Take `step` for every row of `quality` [n, m]: return the last state and the choice [n]."""
        rows = checks.quality_matrix(quality)
        choice = np.empty(len(rows), np.int64)
        for i, row in enumerate(rows):
            state, choice[i] = self.step(state, row)
        return state, choice


def weighted(qualities: Mapping[str, Array], weights: Mapping[str, float]) -> FloatArray:
    """Return sum_k weights[k] * qualities[k], a quality [n, m] for any policy above.

    Each quality is [n, m], higher is better, and should be scaled to comparable units first (on train).
    Weights are 0 or more, one for each score, not all 0: so the best of the sum is never strictly worse on
    every score than another model, and with weights above 0 it is Pareto-optimal.
    """
    scores = _scores(qualities)
    if set(weights) != set(scores):
        raise ValueError(f"weights name {sorted(weights)}, expected exactly the scores {sorted(scores)}")
    values = {name: checks.nonnegative(weight, f"the weight of {name}") for name, weight in weights.items()}
    if not all(np.isfinite(list(values.values()))) or not any(values.values()):
        raise ValueError(f"weights are {values}, expected finite numbers, at least one above 0")
    return np.asarray(np.sum([values[name] * scores[name] for name in scores], axis=0))


def pareto_optimal(qualities: Mapping[str, Array], slack: float | Mapping[str, float] = 0.0) -> BoolArray:
    """Return bool [n, m]: which models no other model dominates on that prompt, over all scores.

    Model k dominates j where k is at least as good on every score and better by more than `slack` on at
    least one (in that score's units; one number for all or one per score, 0 or more). At slack 0 this is
    Pareto dominance. Each prompt keeps at least one model.
    """
    scores = _scores(qualities)
    each = slack if isinstance(slack, Mapping) else dict.fromkeys(scores, slack)
    if set(each) != set(scores):
        raise ValueError(f"slack names {sorted(each)}, expected exactly the scores {sorted(scores)}")
    shape = next(iter(scores.values())).shape
    as_good, better = np.ones((*shape, shape[1]), bool), np.zeros((*shape, shape[1]), bool)
    for name, score in scores.items():
        lead = score[:, :, None] - score[:, None, :]
        as_good &= lead >= 0
        better |= lead > checks.nonnegative(each[name], f"the slack of {name}")
    return np.logical_not((as_good & better).any(axis=1))


def pareto_cheapest(
    qualities: Mapping[str, Array], cost: Array, *, slack: float | Mapping[str, float] = 0.0
) -> IntArray:
    """Choose each prompt's cheapest `pareto_optimal` model; more slack keeps more models, so costs no more.

    Cost takes no part in the dominance: with it the cheapest model would always be undominated, and win.
    Of equally cheap ones the lower column is taken.
    """
    allowed = pareto_optimal(qualities, slack)
    cost = checks.cost_vector(cost, allowed.shape[1])
    return _cheapest(np.zeros(allowed.shape), cost, allowed)


def _scores(qualities: Mapping[str, Array]) -> dict[str, FloatArray]:
    scores = {name: checks.quality_matrix(score, f"quality of {name}") for name, score in qualities.items()}
    if len({score.shape for score in scores.values()}) != 1:
        shapes = {name: score.shape for name, score in scores.items()}
        raise ValueError(f"the scores have shapes {shapes}, expected one or more scores of one shape")
    return scores


def _argmax(objective: FloatArray, cost: FloatArray) -> IntArray:
    by_cost = np.argsort(cost, kind="stable")
    return np.asarray(by_cost[objective[:, by_cost].argmax(axis=1)], dtype=np.int64)


def _cheapest(quality: FloatArray, cost: FloatArray, allowed: BoolArray) -> IntArray:
    price = np.where(allowed, cost, np.inf)
    among = price == price.min(axis=1, keepdims=True)
    return np.asarray(np.where(among, quality, -np.inf).argmax(axis=1), dtype=np.int64)
