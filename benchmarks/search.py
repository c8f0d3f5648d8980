"""Look, then decide: what a search saves and gains on the published table, scoring paid.

    python -m benchmarks.search [--predictor kernel] [--scores nima,clip,mixed] [--seeds 0,1,2,3,4]
    python -m benchmarks.search --table                   only print the tables of benchmarks/results/search.csv

The predictor is fitted as `benchmarks.routers` does. Belief and λ come from out-of-fold predictions; frontiers are read
off the test prompts. An image of the table is a mean of three, priced as one: no single image is published, so nothing
here tells what is left of a score's gain on fresh images (`promptroute evaluate` tells it for studies with several
seeds). The price of a look is what the scorers say they take (conf/published/cems.yaml), by the study's cost rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import RESULTS, markdown, run, spread
from promptroute.core.component import build
from promptroute.evaluation import bootstrap, metrics
from promptroute.evaluation.search import Known, coverage, curve, outcome, seconds_of, shares_of
from promptroute.router.packing import Look, look_of
from promptroute.routing import choices
from promptroute.routing.base import Policy, Training
from promptroute.routing.costs import CostRule
from promptroute.routing.policies import CostAware, Guaranteed
from promptroute.routing.search_budget import SearchBudget
from promptroute.routing.search_policy import GuaranteedSearch, Search
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "search.csv"
SCORES = ("nima", "clip", "mixed")
TARGETS: tuple[Literal["quality", "cost"], ...] = ("quality", "cost")
BUDGETS = (25, 50, 75, 100)
"""Percent of what the best single model costs, for all test prompts; a search takes them one by one."""
EPSILONS = {"nima": 0.1, "clip": 1.0, "mixed": 0.02}
"""Score → how far below the best single model's image is good enough, on 90 % of the prompts."""
BEFORE = "choose before"
LIMITS = {"search": None, "at most 2 images": 2}
"""Name of a row → the most images a prompt."""


def price(score: str) -> Look:
    """Return what a look at an image takes, for a score of conf/score/."""
    params = study.settings(f"score={score}")
    quality = study.quality_of(score, study.sides(0)["train"])[1]
    return look_of(params["published"]["scorers"], quality.scores, build(params["cost"], "cost", CostRule))


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted predictor on the published table, and what its prompts and images cost.

    Attributes:
        score: option of conf/score/.
        held, held_true: out-of-fold predictions and observed quality, to calibrate on [k, m].
        known: the test prompts.
        single: the best single model of the training prompts.
        look: what a look takes.
    """

    score: str
    held: np.ndarray
    held_true: np.ndarray
    known: Known
    single: int
    look: Look

    @property
    def training(self) -> Training:
        """Give what a policy may know besides the held-out prompts."""
        return Training(look=self.look.dollars, single=self.single)

    def calibrated(self, policy: Policy) -> Any:
        """Return the policy, calibrated."""
        return policy.calibrate(self.held, self.held_true, self.known.cost, self.training)

    def against(self, gained: np.ndarray, paid: np.ndarray, name: str) -> dict[str, float]:
        """Compare quality and dollars of each test prompt [n] with the best single model's."""
        true, cost = self.known.observed, self.known.cost
        best = metrics.best_single(true)
        alone = float(true[:, best].mean())
        return {
            f"{name}_gain": float(gained.mean()) - alone,
            f"{name}_cost_change": float(paid.mean() / cost[best] - 1),
            f"{name}_share": float(metrics.gap_closed(gained.mean(), alone, true.max(axis=1).mean())),
        }

    def promised(self, gained: np.ndarray, paid: np.ndarray) -> dict[str, float]:
        """Return how often the guarantee was kept, and at what change of cost and quality."""
        alone = self.known.observed[:, self.single]
        return {
            "guarantee_kept": float((gained >= alone - EPSILONS[self.score]).mean()),
            "guarantee_cost_change": float(paid.mean() / self.known.cost[self.single] - 1),
            "guarantee_gain": float((gained - alone).mean()),
        }

    def dollars(self, percent: float) -> float:
        """Return a budget for the test prompts, as a part of what the best single model costs."""
        return percent / 100 * float(self.known.cost[self.single]) * len(self.known.observed)


def measure(predictor: str, score: str, seeds: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Return rows, one for each seed and policy."""
    look, rows = price(score), []
    profiles = study.settings()["published"]["models"].values()
    seconds = np.array([one["profile"]["seconds"] + (look.seconds or 0) for one in profiles])
    for seed in seeds:
        side, kept = study.sides(seed), study.predictions(study.Cell(predictor, score, seed))
        quality = study.quality_of(score, side["train"])[0]
        known = Known(kept["test"], quality[side["test"]], study.read_table().cost, {}, None, {}, seconds)
        single = metrics.best_single(quality[side["train"]])
        fit = Fit(score, kept["held"], quality[kept["held_at"]], known, single, look)
        facts = {"predictor": predictor, "score": score, "seed": seed, "prompts": len(known.observed)}
        facts["look"] = look.dollars
        rows.append({**facts, "policy": BEFORE, **before_row(fit)})
        rows += [{**facts, "policy": name, **search_row(fit, most)} for name, most in LIMITS.items()]
    return rows


def before_row(fit: Fit) -> dict[str, float]:
    """Measure choosing before generating."""
    predicted, true, cost = fit.known.predicted, fit.known.observed, fit.known.cost
    read = bootstrap.headline(predicted, true, cost, seed=0, most=None, resamples=0)
    row = {name: one.estimate for name, one in read.items()}
    chosen: dict[str, np.ndarray] = {
        target: fit.calibrated(CostAware(target=target)).choose(predicted, cost) for target in TARGETS
    }
    for percent in BUDGETS:
        chosen[f"budget_{percent}"] = choices.under_budget(predicted, cost, budget=fit.dollars(percent))
    for name, choice in chosen.items():
        row |= fit.against(true[np.arange(len(true)), choice], cost[choice], name)
    assert fit.known.seconds is not None
    for target in TARGETS:
        row |= seconds_row(fit.known.seconds[chosen[target]] - (fit.look.seconds or 0), target)
    choice = fit.calibrated(Guaranteed(epsilon=EPSILONS[fit.score])).choose(predicted, cost)
    return row | fit.promised(true[np.arange(len(true)), choice], cost[choice])


def search_row(fit: Fit, most: int | None) -> dict[str, float]:
    """Measure a search of at most so many images a prompt; one of two is the guarantee's chain too."""
    known = fit.known
    row: dict[str, float] = {}
    assert known.seconds is not None
    for target in TARGETS:
        own = fit.calibrated(Search(target=target, max_images=most))
        if not isinstance(own, Search):
            raise ValueError(f"{fit.score}: no search met the target ({target})")
        found = outcome(own, known)
        row |= fit.against(found.quality, found.cost, target)
        row |= seconds_row(seconds_of(known.seconds, found.replays), target)
        row |= {f"{target}_{many}": share for many, share in shares_of(found.replays).items()}
    spent, gained = curve(own, known)[1:3]
    read = bootstrap.curve_intervals(
        np.concatenate([np.broadcast_to(known.cost, known.observed.shape), spent], axis=1),
        np.concatenate([known.observed, gained], axis=1),
        known.observed,
        known.cost,
        seed=0,
        resamples=0,
    )
    row |= {name: one.estimate for name, one in read.items()}
    row |= {f"coverage_{looks}": share for looks, share in coverage(own, known, found.replays).items()}
    if most == 2:
        promise = fit.calibrated(GuaranteedSearch(epsilon=EPSILONS[fit.score]))
        replayed = promise.replays(known.predicted, known.observed, known.cost)[0]
        return row | fit.promised(replayed.quality, replayed.cost)
    budget = SearchBudget.fit(own, fit.held, fit.held_true, known.cost)
    for percent in BUDGETS:
        purse = budget.start(fit.dollars(percent), len(known.observed))
        replayed = budget.run(purse, known.predicted, known.observed)[1]
        row |= fit.against(replayed.quality, replayed.cost, f"budget_{percent}")
    return row


def seconds_row(taken: np.ndarray, target: str) -> dict[str, float]:
    """Return mean, median and 95 % quantile of requests' seconds [n]."""
    p50, p95 = np.quantile(taken, [0.5, 0.95]).tolist()
    return {f"{target}_seconds": float(taken.mean()), f"{target}_p50": p50, f"{target}_p95": p95}


HEADS = (
    "read off the test prompts | cost at the best single model's quality, % | oracle gap closed at its cost, "
    "% | area | ahead, seeds | coverage of 90 % intervals before a look, % | after one | after two",
    "λ set beforehand | target quality: cost, % | quality | target cost: cost, % | oracle gap closed, % | "
    "1 / 2 / 3 / 4 images, %: target quality | target cost",
    "seconds a request: mean / p50 / p95 | target quality | target cost",
    "budget, % of the best single model's cost: quality against it | "
    + " | ".join(map(str, BUDGETS))
    + " | most overspent, points",
    "guarantee: within 0.1 (nima), 1 (clip), 0.02 (mixed) on 90 % | kept, % | cost, % | quality",
)
"""Of the tables: the names of their columns."""


def table(rows: pd.DataFrame) -> str:
    """Format the tables in Markdown: mean ± standard deviation over seeds."""
    read, set_before, times, budgets, promises = [], [], [], [], []
    for (score, policy), own in rows.groupby(["score", "policy"], sort=False):
        base = rows[(rows["score"] == score) & (rows["policy"] == BEFORE)].set_index("seed")["frontier_area"]
        lead = own.set_index("seed")["frontier_area"] - base
        name = f"{score}: {policy}"
        read.append(
            [
                name,
                spread(own["iso_quality_cost"], "+.1f", 100),
                spread(own["oracle_gap_closed"], ".1f", 100),
                spread(own["frontier_area"], ".4f"),
                f"{(lead > 0).sum()} of {len(lead)}" if policy != BEFORE else "",
                *(
                    spread(own[f"coverage_{looks}"], ".1f", 100) if policy != BEFORE else ""
                    for looks in (0, 1, 2)
                ),
            ]
        )
        set_before.append(
            [
                name,
                spread(own["quality_cost_change"], "+.1f", 100),
                spread(own["quality_gain"], "+.4f"),
                spread(own["cost_cost_change"], "+.1f", 100),
                spread(own["cost_share"], ".1f", 100),
                *(_images(own, target) for target in TARGETS),
            ]
        )
        times.append(
            [name]
            + [
                " / ".join(f"{own[f'{target}_{part}'].mean():.2f}" for part in ("seconds", "p50", "p95"))
                for target in TARGETS
            ]
        )
        if "budget_25_gain" in own and own["budget_25_gain"].notna().any():
            over = max(own[f"budget_{percent}_cost_change"].max() + 1 - percent / 100 for percent in BUDGETS)
            gains = [spread(own[f"budget_{percent}_gain"], "+.3f") for percent in BUDGETS]
            budgets.append([name, *gains, f"{100 * over:+.2f}"])
        if "guarantee_kept" in own and own["guarantee_kept"].notna().any():
            promises.append(
                [
                    name if policy == BEFORE else f"{score}: a draft, then the best single model",
                    spread(own["guarantee_kept"], ".1f", 100),
                    spread(own["guarantee_cost_change"], "+.1f", 100),
                    spread(own["guarantee_gain"], "+.3f"),
                ]
            )
    parts = zip(HEADS, (read, set_before, times, budgets, promises), strict=True)
    return "\n\n".join(markdown(head, part) for head, part in parts)


def _images(own: pd.DataFrame, target: str) -> str:
    known = [own[f"{target}_{many}"].mean() for many in range(1, 5) if f"{target}_{many}" in own]
    return " / ".join(f"{100 * share:.0f}" for share in known if share == share)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = study.parser("search", __doc__)
    parser.set_defaults(scores=list(SCORES))
    return run(parser, arguments, CSV, lambda chosen: study.measure_each(measure, chosen, 0), table)


if __name__ == "__main__":
    run_stage(main)
