"""Look, then decide: what a search saves and gains on the published table, scoring paid.

    python -m benchmarks.search [--predictor kernel] [--scores nima,clip,mixed] [--seeds 0,1,2,3,4]
    python -m benchmarks.search --table                   only print the tables of benchmarks/results/search.csv

The predictor is fitted as `benchmarks.routers` does. Belief and λ come from out-of-fold predictions; frontiers are read
off the test prompts. An image of the table is a mean of three, priced as one: no single image is published, so nothing
here tells what is left of a score's gain on fresh images (`promptroute evaluate` tells it for studies with several
seeds). The price of a look is what the scorers say they take (conf/published/cems.yaml), by the study's cost rule.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import RESULTS, markdown, run, spread
from promptroute.core.component import build
from promptroute.evaluation import bootstrap, metrics
from promptroute.evaluation.search import Known, coverage, curve, outcome, seconds_of, shares_of
from promptroute.router.packing import Look, look_of
from promptroute.routing.base import Training
from promptroute.routing.costs import CostRule
from promptroute.routing.policies import CostAware
from promptroute.routing.search_policy import Search
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "search.csv"
SCORES = ("nima", "clip", "mixed")
TARGETS: tuple[Literal["quality", "cost"], ...] = ("quality", "cost")
LIMITS = {"search": None, "at most 2 images": 2}
"""Name of a row → the most images a prompt."""


def price(score: str) -> Look:
    """Return what a look at an image takes, for a score of conf/score/."""
    params = study.settings(f"score={score}")
    quality = study.quality_of(score, study.sides(0)["train"])[1]
    return look_of(params["published"]["scorers"], quality.scores, build(params["cost"], "cost", CostRule))


def measure(predictor: str, score: str, seeds: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Return rows, one for each seed and policy."""
    cost, look = study.read_table().cost, price(score)
    profiles = study.settings()["published"]["models"].values()
    seconds = np.array([one["profile"]["seconds"] + (look.seconds or 0) for one in profiles])
    rows = []
    for seed in seeds:
        side, kept = study.sides(seed), study.predictions(study.Cell(predictor, score, seed))
        quality = study.quality_of(score, side["train"])[0]
        true, held = quality[side["test"]], quality[kept["held_at"]]
        known = Known(kept["test"], true, cost, {}, None, {}, seconds)
        facts = {
            "predictor": predictor,
            "score": score,
            "seed": seed,
            "prompts": len(true),
            "look": look.dollars,
        }

        before = bootstrap.headline(kept["test"], true, cost, seed=0, most=None, resamples=0)
        row = {**facts, "policy": "choose before", **{name: one.estimate for name, one in before.items()}}
        for target in TARGETS:
            choice = CostAware(target=target).calibrate(kept["held"], held, cost).choose(kept["test"], cost)
            row |= against(true, cost, true[np.arange(len(true)), choice], cost[choice], target)
            row |= seconds_row(seconds[choice] - (look.seconds or 0), target)
        rows.append(row)
        for name, most in LIMITS.items():
            row = {**facts, "policy": name}
            for target in TARGETS:
                policy = Search(target=target, max_images=most)
                fitted = policy.calibrate(kept["held"], held, cost, Training(look=look.dollars))
                if not isinstance(fitted, Search):
                    raise ValueError(f"{score}, seed {seed}: no search met the target ({target})")
                own, found = fitted, outcome(fitted, known)
                row |= against(true, cost, found.quality, found.cost, target)
                row |= seconds_row(seconds_of(seconds, found.replays), target)
                row |= {f"{target}_{many}": share for many, share in shares_of(found.replays).items()}
            spent, gained = curve(own, known)[1:3]
            read = bootstrap.curve_intervals(
                np.concatenate([np.broadcast_to(cost, true.shape), spent], axis=1),
                np.concatenate([true, gained], axis=1),
                true,
                cost,
                seed=0,
                resamples=0,
            )
            row |= {name: one.estimate for name, one in read.items()}
            row |= {
                f"coverage_{looks}": share for looks, share in coverage(own, known, found.replays).items()
            }
            rows.append(row)
    return rows


def against(
    true: np.ndarray, cost: np.ndarray, gained: np.ndarray, paid: np.ndarray, target: str
) -> dict[str, float]:
    """Compare quality and dollars of each prompt [n] with the best single model's."""
    best = metrics.best_single(true)
    alone = float(true[:, best].mean())
    return {
        f"{target}_gain": float(gained.mean()) - alone,
        f"{target}_cost_change": float(paid.mean() / cost[best] - 1),
        f"{target}_share": float(metrics.gap_closed(gained.mean(), alone, true.max(axis=1).mean())),
    }


def seconds_row(taken: np.ndarray, target: str) -> dict[str, float]:
    """Return mean, median and 95 % quantile of requests' seconds [n]."""
    p50, p95 = np.quantile(taken, [0.5, 0.95]).tolist()
    return {f"{target}_seconds": float(taken.mean()), f"{target}_p50": p50, f"{target}_p95": p95}


def table(rows: pd.DataFrame) -> str:
    """Format the tables in Markdown: mean ± standard deviation over seeds."""
    read, set_before, times = [], [], []
    for (score, policy), own in rows.groupby(["score", "policy"], sort=False):
        base = rows[(rows["score"] == score) & (rows["policy"] == "choose before")].set_index("seed")[
            "frontier_area"
        ]
        lead = own.set_index("seed")["frontier_area"] - base
        name = f"{score}: {policy}"
        read.append(
            [
                name,
                spread(own["iso_quality_cost"], "+.1f", 100),
                spread(own["oracle_gap_closed"], ".1f", 100),
                spread(own["frontier_area"], ".4f"),
                f"{(lead > 0).sum()} of {len(lead)}" if policy != "choose before" else "",
                *(
                    spread(own[f"coverage_{looks}"], ".1f", 100) if policy != "choose before" else ""
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
    return "\n\n".join(
        [
            markdown(
                "read off the test prompts | cost at the best single model's quality, % | oracle gap closed at its cost, "
                "% | area | ahead, seeds | coverage of 90 % intervals before a look, % | after one | after two",
                read,
            ),
            markdown(
                "λ set beforehand | target quality: cost, % | quality | target cost: cost, % | oracle gap closed, % | "
                "1 / 2 / 3 / 4 images, %: target quality | target cost",
                set_before,
            ),
            markdown("seconds a request: mean / p50 / p95 | target quality | target cost", times),
        ]
    )


def _images(own: pd.DataFrame, target: str) -> str:
    known = [own[f"{target}_{many}"].mean() for many in range(1, 5) if f"{target}_{many}" in own]
    return " / ".join(f"{100 * share:.0f}" for share in known if share == share)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = study.parser("search", __doc__)
    parser.set_defaults(scores=list(SCORES))
    return run(parser, arguments, CSV, lambda chosen: study.measure_each(measure, chosen, 0), table)


if __name__ == "__main__":
    run_stage(main)
