"""Measure routing of out-of-distribution prompts: train without a prompt set, test on it.

    python -m benchmarks.shift [--predictor ridge] [--scores nima,clip] [--seeds 0,1,2,3,4]
    python -m benchmarks.shift --table                    only print the table of benchmarks/results/shift.csv

For each prompt set: the study's router (cost-aware, λ for the best single model's quality) trained and
calibrated with all sets, then without this one, both evaluated on the same test prompts, all of this set. Then
with the out-of-distribution fallback: a prompt whose nearest training prompts are farther than those of all but
a share of the validation prompts goes to the model that is best on validation. Nothing is fitted on test. The
rows "nothing" show what the fallback costs without a shift.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import RESULTS, cells, markdown, resample_counts, run
from promptroute.evaluation import metrics
from promptroute.routing.ood import OodDetector
from promptroute.routing.policies import CostAware
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "shift.csv"
SHARES = (0.05, 0.2, 0.5)
"""Shares of the validation prompts that go to the fallback."""
RESAMPLES = 2000


def strategies(cell: study.Cell, left_out: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return each strategy's choice on the test prompts of the set `left_out`: (positions, choice, fallback).

    With "" nothing is left out, and all test prompts are evaluated: what the fallback costs without a shift.
    """
    known = study.read_table()
    vectors = study.with_text("minilm").batch.embeddings["minilm"]
    found = {}
    for trained in dict.fromkeys([cell, cell._replace(without=left_out)]):
        side, kept = study.positions(trained), study.predictions(trained)
        quality, _ = study.quality_of(cell.score, side["train"])
        held = quality[side["validation"]]
        policy = CostAware().calibrate(kept["validation"], held, known.cost)
        here = known.study.sets[side["test"]] == left_out if left_out else np.ones(len(side["test"]), bool)
        test = side["test"][here]
        decided = policy.choose(kept["test"][here], known.cost)
        found["without it" if trained.without else "with it"] = (test, decided, np.zeros(len(test), bool))
    # What follows uses the fit that has not seen the set, or the only fit.
    safest = metrics.best_single(held)
    for share in SHARES:
        detector = OodDetector.fit(vectors[side["train"]], vectors[side["validation"]], share=share)
        away = detector.flags(vectors[test])
        found[f"fallback {share:.0%}"] = (test, np.where(away, safest, decided), away)
    found["best single"] = (test, np.full(len(test), safest), np.ones(len(test), bool))
    return found


def measure(predictor: str, score: str, left_out: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows: each strategy's quality and cost against the best single model of validation.

    The test prompts of all seeds are pooled; the intervals are 95 % bootstrap over prompts, a prompt that
    several seeds test is resampled with all its occurrences.
    """
    cost = study.read_table().cost
    parts: dict[str, list[np.ndarray]] = {}
    where: list[np.ndarray] = []
    for seed in seeds:
        cell = study.Cell(predictor, score, seed)
        quality, _ = study.quality_of(score, study.positions(cell)["train"])
        found = strategies(cell, left_out)
        test, alone, _ = found["best single"]
        rows = np.arange(len(test))
        where.append(test)
        for name, (_, choice, away) in found.items():
            gain = quality[test][rows, choice] - quality[test][rows, alone]
            parts.setdefault(name, []).append(
                np.column_stack([gain, cost[choice], cost[alone], away, np.ones(len(test))])
            )
    prompts, inverse = np.unique(np.concatenate(where), return_inverse=True)
    counts = resample_counts(len(prompts), RESAMPLES)[:, inverse]
    stacked = {name: np.concatenate(some) for name, some in parts.items()}
    means = {name: (counts @ rows) / counts.sum(axis=1, keepdims=True) for name, rows in stacked.items()}
    lines = []
    router = means["without it" if left_out else "with it"][:, 0]
    for name, mean in means.items():
        gain, change = mean[:, 0], mean[:, 1] / mean[:, 2] - 1
        # As many fallbacks at random would leave this share of the router's own gain or loss.
        against, by_chance = gain - router, router * (1 - mean[:, 3])
        line: dict[str, Any] = {
            "predictor": predictor,
            "score": score,
            "left_out": left_out or "nothing",
            "strategy": name,
            "seeds": len(seeds),
            "prompts": len(prompts),
            "sent_away": mean[0, 3],
            "gain_by_chance": by_chance[0] if name.startswith("fallback") else np.nan,
        }
        for what, values in (("gain", gain), ("cost_change", change), ("gain_over_router", against)):
            low, high = np.quantile(values[1:], [0.025, 0.975])
            line |= {what: values[0], f"{what}_low": low, f"{what}_high": high}
        lines.append(line)
    return lines


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown."""
    shown = rows[rows["strategy"] != "best single"]
    chance = ["–" if np.isnan(gain) else f"{gain:+.4f}" for gain in shown["gain_by_chance"]]
    line = (
        "{score}, {left_out} ({prompts} prompts): {strategy} | {gain:+.4f} [{gain_low:+.4f}, {gain_high:+.4f}] | "
        "{cost_change:+.1f} | {sent_away:.0f} | {chance}"
    )
    lines = cells(
        shown.assign(
            cost_change=100 * shown["cost_change"], sent_away=100 * shown["sent_away"], chance=chance
        ),
        line,
    )
    head = "left out | quality against best single | cost, % | fallback, % | as many at random"
    return markdown(head, lines)


def measure_all(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all chosen scores, each with all prompt sets and without each."""
    predictor = chosen.predictor or study.default_predictor()
    left_out = ["", *sorted(set(study.read_table().study.sets))]
    kinds = [(score, name) for score in chosen.scores for name in left_out]
    study.keep(study.Cell(predictor, score, seed, name) for score, name in kinds for seed in chosen.seeds)
    return [row for score, name in kinds for row in measure(predictor, score, name, chosen.seeds)]


def main(arguments: Sequence[str] | None = None) -> str:
    parser = study.parser("shift", __doc__)
    return run(parser, arguments, CSV, measure_all, table)


if __name__ == "__main__":
    run_stage(main)
