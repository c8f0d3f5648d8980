"""Rules of choice that the benchmarks try and no router has: a budget for prompts that come one by one, several scores."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from promptroute.routing import checks
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.choices import ROUNDING, cheapest_of, cost_aware
from promptroute.routing.frontier import trace


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
        if prompts < 1 or not budget * (1 + ROUNDING) >= least:
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
    return cheapest_of(np.zeros(allowed.shape), cost, allowed)


def _scores(qualities: Mapping[str, Array]) -> dict[str, FloatArray]:
    scores = {name: checks.quality_matrix(score, f"quality of {name}") for name, score in qualities.items()}
    if len({score.shape for score in scores.values()}) != 1:
        shapes = {name: score.shape for name, score in scores.items()}
        raise ValueError(f"the scores have shapes {shapes}, expected one or more scores of one shape")
    return scores
