"""Measure the guarantee's coverage: conformal risk control on many splits of prompts unseen in training.

    python -m benchmarks.guarantee [--predictor ridge] [--scores nima,clip] [--seeds 0,1,2,3,4] [--splits 200]
    python -m benchmarks.guarantee --table                only print the table of benchmarks/results/guarantee.csv

The guarantee: "within ε of the best single model's quality with probability 1 - α". A predictor is fitted once a
seed on the training prompts; the validation and test prompts, which it has not seen, are pooled and split again
into calibration and test halves (by text) every time. The theorem is about the mean over such splits.
The best single model is that of the training prompts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import RESULTS, markdown, run
from promptroute.evaluation import metrics
from promptroute.routing.guarantees import calibrate, coverage
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "guarantee.csv"
EPSILONS = {"nima": (0.0, 0.1, 0.3), "clip": (0.0, 1.0, 3.0)}
"""Score → ε in its own unit."""
ALPHAS = (0.001, 0.05, 0.1, 0.2)
FEW = (8, 20)
"""Also with so few calibration prompts, at the second ε and α = 0.1: fewer than 1 / α - 1 = 9 are too few."""


def halves(texts: Sequence[str], splits: int, seed: int) -> list[np.ndarray]:
    """Make masks [n] of the calibration half, one for each split; equal texts are in the same half."""
    _, which = np.unique([text.strip().casefold() for text in texts], return_inverse=True)
    random = np.random.default_rng(seed)
    masks = []
    for _ in range(splits):
        order = random.permutation(which.max() + 1)
        masks.append((order < len(order) // 2)[which])
    return masks


def measure(predictor: str, score: str, seeds: Sequence[int], splits: int) -> list[dict[str, Any]]:
    """Return rows, one for each ε, α and number of calibration prompts."""
    cost, texts = study.read_table().cost, study.read_table().study.batch.texts
    cases = [(e, a, None) for e in EPSILONS[score] for a in ALPHAS]
    cases += [(EPSILONS[score][1], 0.1, few) for few in FEW]
    found: dict[Any, list[tuple[float, ...]]] = {case: [] for case in cases}
    for seed in seeds:
        cell = study.Cell(predictor, score, seed)
        side, kept = study.positions(cell), study.predictions(cell)
        quality, _ = study.quality_of(score, side["train"])
        single = metrics.best_single(quality[side["train"]])
        pool = np.concatenate([side["validation"], side["test"]])
        true, predicted = quality[pool], np.concatenate([kept["validation"], kept["test"]])
        share = splits // len(seeds) + (seeds.index(seed) < splits % len(seeds))
        for mask in halves([texts[i] for i in pool], share, seed):
            before, after = np.flatnonzero(mask), np.flatnonzero(~mask)
            for epsilon, alpha, few in cases:
                index = before if few is None else before[:: max(len(before) // few, 1)][:few]
                guarantee = calibrate(
                    predicted[index], true[index], cost, epsilon=epsilon, alpha=alpha, single=single
                )
                choice = guarantee.decide(predicted[after], cost)
                reached = coverage(true[after], choice, single=single, epsilon=epsilon).share
                own = true[after][np.arange(len(after)), choice]
                found[epsilon, alpha, few].append(
                    (
                        guarantee.given,
                        reached,
                        (choice != single).mean(),
                        (cost[choice] / cost[single] - 1).mean(),
                        own.mean() - true[after][:, single].mean(),
                        len(index),
                    )
                )
    rows = []
    for (epsilon, alpha, _), values in found.items():
        given, reached, cheaper, change, gain, prompts = np.array(values, dtype=np.float64).T
        rows.append(
            {
                "predictor": predictor,
                "score": score,
                "epsilon": epsilon,
                "alpha": alpha,
                "calibration_prompts": int(np.median(prompts)),
                "splits": len(values),
                "given": given.mean(),
                "coverage": reached.mean(),
                "coverage_where_given": reached[given > 0].mean() if given.any() else np.nan,
                "coverage_low": np.quantile(reached, 0.05),
                "coverage_high": np.quantile(reached, 0.95),
                "cheaper": cheaper.mean(),
                "cost_change": change.mean(),
                "quality_gain": gain.mean(),
            }
        )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown."""
    head = (
        "guarantee | calibration prompts | attainable, % of splits | nominal coverage, % | "
        "measured coverage, % | 5 to 95 % of splits | to a cheaper model, % | cost, % | quality"
    )
    lines = [
        [
            f"{row.score}: ε = {row.epsilon:g}, α = {row.alpha:g}",
            f"{row.calibration_prompts}",
            f"{100 * row.given:.0f}",
            f"{100 * (1 - row.alpha):.3g}",
            f"{100 * row.coverage:.1f}",
            f"{100 * row.coverage_low:.1f} to {100 * row.coverage_high:.1f}",
            f"{100 * row.cheaper:.1f}",
            f"{100 * row.cost_change:+.1f}",
            f"{row.quality_gain:+.3f}",
        ]
        for row in rows.itertuples()
    ]
    return markdown(head, lines)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = study.parser("guarantee", __doc__)
    parser.add_argument("--splits", type=int, default=200, help="over all seeds (default: 200)")
    return run(
        parser, arguments, CSV, lambda chosen: study.measure_each(measure, chosen, chosen.splits), table
    )


if __name__ == "__main__":
    run_stage(main)
