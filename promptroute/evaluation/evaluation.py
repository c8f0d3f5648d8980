"""Everything that is measured of a router on prompts whose scores were observed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from promptroute.core.plain import Plain
from promptroute.evaluation import bootstrap, metrics
from promptroute.evaluation.search import Known, figures, outcome, row
from promptroute.routing.base import Policy
from promptroute.routing.checks import FloatArray, IntArray
from promptroute.routing.policies import (
    BestPredicted,
    CheapestWithin,
    CostAware,
    Oracle,
    Random,
    Single,
    UnderBudget,
)
from promptroute.routing.search_policy import Search

PER_SET = "best_per_set"
"""The row of the best model per prompt set."""
AT_PER_SET = "cost_aware_per_set"
"""The row of `CostAware` at no more than what that row costs, as far as the prompts to calibrate on can tell."""
FEW = 30
"""Fewer test prompts than this are too few to tell much by."""


def to_calibrate(policy: Policy, per_set: float | None = None) -> dict[str, Policy]:
    """Give the policies that a router of `policy` is compared with, to be calibrated as it is: name → policy.

    One that looks at images is compared with itself for either target too. `per_set`: dollars an image of the best model
    per prompt set on the prompts to calibrate on; None: not known.
    """
    targets: tuple[Literal["quality", "cost"], ...] = ("quality", "cost")
    looking = {
        f"search_{target}": policy.model_copy(
            update={"target": target, "tradeoff": None, "standard_errors": 0.0, "budget": None}
        )
        for target in targets
        if type(policy) is Search
    }
    return {
        **looking,
        "cost_aware_quality": CostAware(target="quality"),
        "cost_aware_cost": CostAware(target="cost"),
        "cheapest_within_quality": CheapestWithin(target="quality"),
        "cheapest_within_cost": CheapestWithin(target="cost"),
        **({} if per_set is None else {AT_PER_SET: CostAware(target="cost", budget=per_set)}),
    }


def compared(
    observed: FloatArray, cost: FloatArray, models: Sequence[str], calibrated: Mapping[str, Policy], seed: int
) -> dict[str, Policy]:
    """Give every policy that is judged beside the router, by the name that it has in every table.

    `oracle` sees the observed quality [n, m]; `single_MODEL` and `random` see nothing; the others see the
    prediction: `best_predicted` (CEMS), `under_budget` (what the best single model costs on these prompts), and
    the `calibrated` ones.
    """
    best = metrics.best_single(observed)
    return {
        "oracle": Oracle(),
        **{f"single_{model}": Single(model=column) for column, model in enumerate(models)},
        "random": Random(seed=seed),
        "best_predicted": BestPredicted(),
        "under_budget": UnderBudget(budget=float(cost[best])),
        **calibrated,
    }


def strategy_rows(
    observed: FloatArray,
    raw: Mapping[str, FloatArray],
    cost: FloatArray,
    models: Sequence[str],
    chosen: Mapping[str, IntArray],
) -> dict[str, Plain]:
    """Return the cost table: strategy → mean quality and regret, each raw score's mean, dollars, shares per model.

    `cost` of a row is in dollars per image (a single request, as in CEMS), `total_cost` in dollars for all prompts.
    """
    rows = {}
    for name, choice in chosen.items():
        row = metrics.strategy(observed, cost, choice)
        rows[name] = {
            "quality": row.quality,
            **{score: float(values[np.arange(len(choice)), choice].mean()) for score, values in raw.items()},
            "cost": row.cost,
            "total_cost": row.total_cost,
            "regret": row.regret,
            "share": dict(zip(models, row.share, strict=True)),
        }
    return rows


@dataclass(frozen=True, eq=False)
class Judged:
    """A router's predictions and choices on n prompts, and what was observed; m models.

    Attributes:
        predicted, observed: quality [n, m], higher is better.
        raw: score name → [n, m] in the score's own unit.
        cost: dollars per image [m].
        models: m names.
        decided: the router's own choice [n]; of a search the model whose image it keeps.
        per_set: the choice [n] of the best model per prompt set, learnt on other prompts; None: not known.
        policy: the router's own, whose figures are measured too.
        calibrated: name → policy to compare with, calibrated on other prompts than these.
        images: observed quality of each single image [n, m, k]; None: only means are known.
        raw_images: score name → [n, m, k], of the scores that single images have.
        seconds: of generating an image and looking at it [m]; None: not known.
    """

    predicted: FloatArray
    observed: FloatArray
    raw: Mapping[str, FloatArray]
    cost: FloatArray
    models: Sequence[str]
    decided: IntArray
    policy: Policy
    calibrated: Mapping[str, Policy]
    per_set: IntArray | None = None
    images: FloatArray | None = None
    raw_images: Mapping[str, FloatArray] = field(default_factory=dict)
    seconds: FloatArray | None = None

    @property
    def known(self) -> Known:
        """Give what a search is judged by."""
        return Known(
            self.predicted, self.observed, self.cost, self.raw, self.images, self.raw_images, self.seconds
        )

    def take(self, index: IntArray) -> "Judged":
        """Return the prompts at the integer positions `index`, in that order."""
        return replace(
            self,
            predicted=self.predicted[index],
            observed=self.observed[index],
            raw={name: values[index] for name, values in self.raw.items()},
            decided=self.decided[index],
            per_set=None if self.per_set is None else self.per_set[index],
            images=None if self.images is None else self.images[index],
            raw_images={name: values[index] for name, values in self.raw_images.items()},
        )


def evaluate(judged: Judged, *, resamples: int, seed: int) -> Plain:
    """Measure a router on n prompts.

    Args:
        judged: predictions, observations, choices.
        resamples: bootstrap resamples of the prompts behind each 95 % interval; 0: no intervals (their ends are NaN).
        seed: of the bootstrap and of the random strategy.

    Returns:
        A nested dict of plain values:
        `few`: a warning, where the prompts are fewer than `FEW`;
        what the router's policy measures of itself, as `guarantee`;
        `best_single`: name of the model with the highest mean observed quality on these prompts;
        `frontier`: iso_quality_cost, oracle_gap_closed and frontier_area (see `promptroute.evaluation.metrics`), read
        off the frontier of `CostAware` on these prompts, each as `bootstrap.Interval`;
        `router`: the same for its own choice, whose operating point was set on other prompts (see
        `bootstrap.outcome_intervals`);
        `choice`: accuracy, macro precision, recall, F1 and AUC of the router and of `best_predicted`;
        `strategies`: see `strategy_rows`; the router's own choice is called `router`, that of the best model per
        prompt set `best_per_set`;
        `against_best_per_set`, where that is known: of the router, and of choosing beforehand at no more than its cost, see
        `bootstrap.paired_intervals`;
        of a policy that looks also what `evaluation.search.figures` gives.
    """
    predicted, observed, cost = judged.predicted, judged.observed, judged.cost
    policies = compared(observed, cost, judged.models, judged.calibrated, seed)
    chosen = _choices(judged, policies)
    searches = {
        name: outcome(policy, judged.known) for name, policy in policies.items() if isinstance(policy, Search)
    }
    gained, paid = observed[np.arange(len(observed)), judged.decided], cost[judged.decided]
    searched: Plain = {}
    if isinstance(judged.policy, Search):
        searches["router"] = found = outcome(judged.policy, judged.known)
        searched = figures(judged.policy, judged.known, found, resamples=resamples, seed=seed)
        gained, paid = found.quality, found.cost
    own = bootstrap.outcome_intervals(observed, cost, gained, paid, seed=seed, resamples=resamples)
    return {
        **({"few": f"only {len(observed)} prompts, too few to tell much by"} if len(observed) < FEW else {}),
        **judged.policy.figures(observed, cost, judged.decided, judged.models),
        "prompts": len(observed),
        "best_single": judged.models[metrics.best_single(observed)],
        "frontier": _frontier(judged, resamples, seed),
        "router": {name: asdict(interval) for name, interval in own.items()},
        "choice": {
            name: asdict(metrics.choice_metrics(observed, predicted, chosen[name]))
            for name in ("router", "best_predicted")
        },
        "strategies": {
            **strategy_rows(observed, judged.raw, cost, judged.models, chosen),
            **{name: row(judged.known, one, list(judged.models)) for name, one in searches.items()},
        },
        **_against_per_set(judged, chosen, gained, paid, resamples, seed),
        **searched,
    }


def _choices(judged: Judged, policies: Mapping[str, Policy]) -> dict[str, IntArray]:
    """Return the choices [n] of all policies that don't look at images, of the router and of the best model per set."""
    chosen = {
        name: policy.choose(judged.observed if policy.sees_observed else judged.predicted, judged.cost)
        for name, policy in policies.items()
        if not policy.looks
    }
    chosen["router"] = judged.decided
    return chosen if judged.per_set is None else chosen | {PER_SET: judged.per_set}


def _against_per_set(
    judged: Judged,
    chosen: Mapping[str, IntArray],
    gained: FloatArray,
    paid: FloatArray,
    resamples: int,
    seed: int,
) -> Plain:
    """Compare the router, that gave [n] quality for [n] dollars, with the best model per prompt set, by prompt."""
    if judged.per_set is None:
        return {}
    each = np.arange(len(judged.observed))
    pairs = {"router": (gained, paid)} | {
        name: (judged.observed[each, chosen[name]], judged.cost[chosen[name]])
        for name in (AT_PER_SET, PER_SET)
        if name in chosen
    }
    base = pairs.pop(PER_SET)
    found = {
        name: bootstrap.paired_intervals(*pair, *base, seed=seed, resamples=resamples)
        for name, pair in pairs.items()
    }
    return {
        f"against_{PER_SET}": {
            name: {figure: asdict(interval) for figure, interval in figures.items()}
            for name, figures in found.items()
        }
    }


def _frontier(judged: Judged, resamples: int, seed: int) -> Plain:
    """Return what is read off the frontier: estimates at every operating point, intervals at some of them.

    One seed for all: the same resamples stand behind every interval.
    """
    arrays = judged.predicted, judged.observed, judged.cost
    every = bootstrap.headline(*arrays, seed=seed, most=None, resamples=0)
    some = bootstrap.headline(*arrays, seed=seed, resamples=resamples)
    return {name: {**asdict(some[name]), "estimate": every[name].estimate} for name in some}
