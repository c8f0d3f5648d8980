"""AUC-Judd of a map by sorting, against a loop over the thresholds.

    python -m benchmarks.auc              384 × 384 pixels, 17,000 fixations, in five rounds
    python -m benchmarks.auc --quick      96 × 96 pixels, 1,000 fixations, one round; writes no results
    python -m benchmarks.auc --table      only print the table of benchmarks/results/auc.csv

The loop counts, for each fixation's value, the pixels that reach it. Both use one thread, alternate, and must give the same
area of the open version's curve. *The area under the ROC curve* is what is reported by default, checked by scikit-learn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on, now, single_threaded
from benchmarks.reporting import RESULTS, markdown, options, run_rounds, speedup
from promptroute.feedback import auc_judd
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "auc.csv"
SIDE, FIXATIONS = 384, 17_000
QUICK = (96, 1_000)
TOLERANCE = 1e-9
HEAD = "area of | loop over thresholds, s | by sorting, s | ratio | ratio, CPU time"


def make_maps(side: int, fixations: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make a truth with so many pixels above 0, a disc that fades out, and a prediction beside it: float64 [side, side]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    distance = np.hypot(x - 0.4, y - 0.5)
    edge = np.sort(distance, axis=None)[fixations]
    truth = np.clip(1 - distance / edge, 0, None)
    predicted = np.exp(-(np.hypot(x - 0.5, y - 0.5) ** 2) / 0.05) + 0.2 * rng.random((side, side))
    return predicted, truth


def loop(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Trace the open version's curve, threshold by threshold."""
    scaled = (predicted - predicted.min()) / (predicted.max() - predicted.min())
    thresholds = np.sort(scaled[truth > 0])[::-1]
    n, pixels = len(thresholds), scaled.size
    true, false = np.zeros(n + 2), np.zeros(n + 2)
    true[-1] = false[-1] = 1
    for at, threshold in enumerate(thresholds):
        true[at + 1] = (at + 1) / n
        false[at + 1] = (np.sum(scaled >= threshold) - at) / (pixels - n)
    return float(np.trapezoid(true, false))


def measure(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Return rows, two a round.

    Raises:
        AssertionError: an area differs.
    """
    from sklearn.metrics import roc_auc_score

    side, fixations = QUICK if quick else (SIDE, FIXATIONS)
    predicted, truth = make_maps(side, fixations)
    expected = {True: loop(predicted, truth), False: roc_auc_score((truth > 0).ravel(), predicted.ravel())}
    place = here(threads=1)
    rows = []
    with single_threaded():
        for turn in range(1 if quick else rounds):
            before = now()
            loop(predicted, truth)
            looped = now() - before
            for original, name in ((True, "the open version's curve"), (False, "the ROC curve")):
                before = now()
                found = auc_judd(predicted[None], truth[None], original)[0]
                ours = now() - before
                if not abs(found - expected[original]) <= TOLERANCE:
                    raise AssertionError(f"{name}: {found}, expected {expected[original]}")
                rows.append(
                    {
                        "area": name,
                        "side": side,
                        "fixations": fixations,
                        "round": turn,
                        "loop_s": looped[0],
                        "loop_cpu_s": looped[1],
                        "ours_s": ours[0],
                        "ours_cpu_s": ours[1],
                        **place,
                    }
                )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds; a ratio is the median of the rounds' ratios."""
    lines = [
        [
            area,
            f"{own['loop_s'].median():.3g}",
            f"{own['ours_s'].median():.3g}",
            speedup(own["loop_s"], own["ours_s"], 0, f", {len(own)} rounds"),
            f"{(own['loop_cpu_s'] / own['ours_cpu_s']).median():.0f} ×",
        ]
        for area, own in rows.groupby("area", sort=False)
    ]
    first = rows.iloc[0]
    about = f"A map of {first['side']} × {first['side']} pixels with {first['fixations']:,} fixations. "
    return f"{about}{measured_on(rows)}\n\n{markdown(HEAD, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("auc", __doc__, quick="a small map, one round")
    return run_rounds(parser, arguments, CSV, measure, table)


if __name__ == "__main__":
    run_stage(main)
