"""Route by several scores at once: weights and Pareto rules over NIMA and CLIP, against routers of a single score.

    python -m benchmarks.scores [--predictor ridge] [--seeds 0,1,2,3,4]
    python -m benchmarks.scores --table                   only print the table of benchmarks/results/scores.csv

One predictor for each score, each min-max scaled on the training prompts (as score=mixed). `weighted` takes
the best weighted sum; `Pareto` the cheapest model that no other beats on both predicted scores, with a slack in
the scaled unit. Nothing is tuned. Changes are against the best single model of each score.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import RESULTS, markdown, run, spread
from promptroute.evaluation import metrics
from promptroute.routing import choices
from promptroute.routing.quality import fit_quality
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "scores.csv"
SCORES = {"nima": "nima.mean", "clip": "clip.score"}
"""Option of conf/score/ → the full name of its score."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of CLIP; NIMA gets the rest."""
SLACKS = (0.0, 0.005, 0.01, 0.02, 0.04)


def policies_of(scaled: Mapping[str, np.ndarray], cost: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Generate each policy's choice [n] from predicted qualities [n, m] in the same unit."""
    for weight in WEIGHTS:
        mixed = choices.weighted(scaled, {"nima": 1 - weight, "clip": weight})
        yield f"weights {1 - weight:g} NIMA, {weight:g} CLIP", choices.best_predicted(mixed, cost)
    for slack in SLACKS:
        yield f"Pareto, slack {slack:g}", choices.pareto_cheapest(scaled, cost, slack=slack)


def measure(predictor: str, seed: int) -> list[dict[str, Any]]:
    """Return rows: one for each policy on the test prompts of a seed."""
    whole, cost = study.read_table().study, study.read_table().cost
    side = study.positions(study.Cell(predictor, "nima", seed))
    train = whole.take(side["train"]).raw
    scaled = {}
    for score, full in SCORES.items():
        scale = fit_quality(train, {full: 1.0}, study.directions(), "minmax")
        # Predictors of one score predict in its own unit, so its scaling applies to them as it is.
        scaled[score] = scale.of({full: study.predictions(study.Cell(predictor, score, seed))["test"]})
    test = whole.take(side["test"])
    rows = []
    for name, choice in policies_of(scaled, cost):
        row: dict[str, Any] = {"predictor": predictor, "seed": seed, "policy": name}
        for score, full in SCORES.items():
            true = test.raw[full]
            best = metrics.best_single(true)
            row[score] = true[np.arange(len(choice)), choice].mean()
            row[f"{score}_gain"] = row[score] - true[:, best].mean()
        single_cost = cost[metrics.best_single(test.raw[SCORES["nima"]])]
        rows.append(row | {"cost": cost[choice].mean(), "cost_change": cost[choice].mean() / single_cost - 1})
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: mean ± standard deviation over seeds."""
    head = "policy | NIMA against best single | CLIP against best single | cost, %"
    lines = []
    for name, part in rows.groupby("policy", sort=False):
        cells = (("nima_gain", 1, "+.4f"), ("clip_gain", 1, "+.4f"), ("cost_change", 100, "+.1f"))
        lines.append([str(name), *(spread(part[column], form, unit) for column, unit, form in cells)])
    return markdown(head, lines)


def measure_all(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all chosen seeds."""
    predictor = chosen.predictor or study.default_predictor()
    study.keep(study.Cell(predictor, score, seed) for score in SCORES for seed in chosen.seeds)
    return [row for seed in chosen.seeds for row in measure(predictor, seed)]


def main(arguments: Sequence[str] | None = None) -> str:
    parser = study.parser("scores", __doc__, scores=False)
    return run(parser, arguments, CSV, measure_all, table)


if __name__ == "__main__":
    run_stage(main)
