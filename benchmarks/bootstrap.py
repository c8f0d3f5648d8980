"""Bootstrap intervals of a router's figures: resamples as a product of matrices, against a plain loop.

    python -m benchmarks.bootstrap               1,000 resamples of 800 prompts, in five rounds
    python -m benchmarks.bootstrap --quick       100 resamples, one round; writes no results
    python -m benchmarks.bootstrap --table       only print the table of benchmarks/results/bootstrap.csv

The loop takes each resample's prompts and computes the figures of them. Both use one thread and the same resamples,
alternate, and must give the same intervals. *Frontier figures* have no baseline.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on, now, single_threaded
from benchmarks.reporting import RESULTS, markdown, options, run_rounds, speedup
from promptroute.evaluation import bootstrap
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "bootstrap.csv"
PROMPTS, MODELS = 800, 4
TOLERANCE = 1e-9
HEAD = "figures of | plain loop, s | ours, s | ratio | ratio, CPU time"


def simulate(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate predicted and observed quality, float64 [n, m], and costs [m]; a more expensive model is better."""
    rng = np.random.default_rng(seed)
    observed = rng.normal(size=(n, 1)) + np.linspace(0, 0.3, MODELS) + rng.normal(0, 0.3, (n, MODELS))
    return observed + rng.normal(0, 0.4, (n, MODELS)), observed, np.linspace(1.0, 4.0, MODELS)


def plain_loop(
    observed: np.ndarray, cost: np.ndarray, choice: np.ndarray, seed: int, resamples: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals of a choice's figures, resample after resample."""
    n, rng = len(observed), np.random.default_rng(seed)
    figures: dict[str, list[float]] = {}
    for _ in range(resamples):
        rows = np.repeat(np.arange(n), rng.multinomial(n, np.full(n, 1 / n)))
        quality = observed[rows, choice[rows]].mean()
        means = observed[rows].mean(axis=0)
        best = means.argmax()
        gain = quality - means[best]
        values = {
            "quality": quality,
            "cost": cost[choice[rows]].mean(),
            "quality_gain": gain,
            "cost_change": cost[choice[rows]].mean() / cost[best] - 1,
            "oracle_gap_closed": gain / (observed[rows].max(axis=1).mean() - means[best]),
        }
        for name, value in values.items():
            figures.setdefault(name, []).append(float(value))
    return {name: tuple(np.quantile(values, [0.025, 0.975])) for name, values in figures.items()}


def measure(resamples: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows, two a round: a choice's figures, and those of the whole frontier.

    Raises:
        AssertionError: the two ways' intervals differ.
    """
    place = here(threads=1)
    predicted, observed, cost = simulate(PROMPTS)
    choice = (predicted - 0.1 * cost).argmax(axis=1)
    own = observed[np.arange(len(choice)), choice]
    rows = []
    with single_threaded():
        bootstrap.headline(predicted, observed, cost, seed=0, resamples=20)
        for turn in range(rounds):
            times = [now()]
            expected = plain_loop(observed, cost, choice, turn, resamples)
            times.append(now())
            found = bootstrap.outcome_intervals(
                observed, cost, own, cost[choice], seed=turn, resamples=resamples
            )
            times.append(now())
            bootstrap.headline(predicted, observed, cost, seed=turn, resamples=resamples)
            times.append(now())
            for name, (low, high) in expected.items():
                difference = max(abs(found[name].low - low), abs(found[name].high - high))
                if not difference <= TOLERANCE:
                    raise AssertionError(f"{name}: the two ways differ by {difference}")
            loop, ours, frontier = np.diff(times, axis=0)
            shared = {"round": turn, "prompts": PROMPTS, "resamples": resamples, **place}
            loops = {"loop_s": loop[0], "loop_cpu_s": loop[1]}
            rows.append({"figures": "a choice", **loops, "ours_s": ours[0], "ours_cpu_s": ours[1], **shared})
            rows.append(
                {"figures": "the frontier", "ours_s": frontier[0], "ours_cpu_s": frontier[1], **shared}
            )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds; a ratio is the median of the rounds' ratios."""
    lines = []
    for name, own in rows.groupby("figures", sort=False):
        alone = own["loop_s"].isna().all()
        lines.append(
            [
                str(name),
                "–" if alone else f"{own['loop_s'].median():.3g}",
                f"{own['ours_s'].median():.3g}",
                "–"
                if alone
                else speedup(own["loop_s"], own["ours_s"], 1, f", {own['round'].nunique()} rounds"),
                "–" if alone else f"{(own['loop_cpu_s'] / own['ours_cpu_s']).median():.1f} ×",
            ]
        )
    first = rows.iloc[0]
    about = f"{first['resamples']:,} resamples of {first['prompts']} prompts. {measured_on(rows)}"
    return f"{about}\n\n{markdown(HEAD, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("bootstrap", __doc__, quick="100 resamples, one round")
    return run_rounds(
        parser, arguments, CSV, lambda quick, rounds: measure(100 if quick else 1_000, rounds), table
    )


if __name__ == "__main__":
    run_stage(main)
