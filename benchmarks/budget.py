"""Spend a budget in dollars on a batch: the gap to the optimum, all prompts at once or prompt by prompt.

    python -m benchmarks.budget [--predictor ridge] [--scores nima,clip] [--seeds 0,1,2,3,4] [--orders 20]
    python -m benchmarks.budget --table                   only print the table of benchmarks/results/budget.csv

`batch` sees all test prompts at once (`plan_budget`); its gap is to the linear relaxation, which no choice
within the budget exceeds. `online` sees them one by one, in random order or sorted by prompt set (the order
farthest from validation), and re-prices its λ at every prompt (`BudgetedStream`). `fixed λ` keeps the λ that
spends the budget on validation; it may overspend.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import study
from benchmarks.reporting import RESULTS, markdown, run
from promptroute.evaluation import metrics
from promptroute.routing import choices
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "budget.csv"
BUDGETS = (0.25, 0.5, 0.75)
"""Dollars per prompt, as a share of what the best single model costs."""


def runs(
    predicted: np.ndarray, before: np.ndarray, cost: np.ndarray, rate: float, sets: np.ndarray, orders: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Generate each way of spending `rate` dollars per prompt: (its name, choice [n])."""
    n = len(predicted)
    yield "batch", choices.plan_budget(predicted, cost, budget=rate * n).choice
    stream = choices.BudgetedStream.fit(before, cost)
    place = max(int(np.searchsorted(stream.mean_cost, rate, side="right")) - 1, 0)
    yield "fixed λ", choices.cost_aware(predicted, cost, tradeoff=float(stream.tradeoffs[place]))
    random = np.random.default_rng(0)
    shuffled = [("online, random order", random.permutation(n)) for _ in range(orders)]
    for name, order in [*shuffled, ("online, set by set", np.argsort(sets, kind="stable"))]:
        choice = np.empty(n, np.int64)
        choice[order] = stream.run(stream.start(rate * n, n), predicted[order])[1]
        yield name, choice


def measure(predictor: str, score: str, seeds: Sequence[int], orders: int) -> list[dict[str, Any]]:
    """Return rows: one for each seed, budget and way, means over its runs. Quality is per prompt."""
    cost, prompt_sets = study.read_table().cost, study.read_table().study.sets
    rows = []
    for seed in seeds:
        cell = study.Cell(predictor, score, seed)
        side, kept = study.positions(cell), study.predictions(cell)
        quality, _ = study.quality_of(score, side["train"])
        true, predicted = quality[side["test"]], kept["test"]
        n, each = len(true), np.arange(len(true))
        best, sets = metrics.best_single(true), prompt_sets[side["test"]]
        for share in BUDGETS:
            rate = share * float(cost[best])
            bound = choices.plan_budget(predicted, cost, budget=rate * n).upper_bound / n
            found: dict[str, list[tuple[float, float, float]]] = {}
            for way, choice in runs(predicted, kept["validation"], cost, rate, sets, orders):
                spent = cost[choice].sum() / (rate * n)
                gain = (true[each, choice] - true[:, best]).mean()
                found.setdefault(way, []).append((spent, bound - predicted[each, choice].mean(), gain))
            for way, values in found.items():
                spent, short, gain = np.array(values).T
                rows.append(
                    {
                        "predictor": predictor,
                        "score": score,
                        "seed": seed,
                        "budget": share,
                        "way": way,
                        "prompts": n,
                        "runs": len(values),
                        "spent": spent.mean(),
                        "most_spent": spent.max(),
                        "short_of_bound": short.mean(),
                        # What the budget can buy at most over the cheapest model on every prompt.
                        "share_of_bound": short.mean() / (bound - predicted[:, cost.argmin()].mean()),
                        "quality_gain": gain.mean(),
                    }
                )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: means over seeds and orders; the most that any run spent."""
    head = (
        "budget, of the best single model's cost | spent, % of it | at most | "
        "gap to the bound, per prompt | % of what it can buy | observed quality against best single"
    )
    lines = [
        [
            f"{score}, {budget:.0%}: {way}",
            f"{100 * part['spent'].mean():.2f}",
            f"{100 * part['most_spent'].max():.2f}",
            f"{part['short_of_bound'].mean():.2g}",
            f"{100 * part['share_of_bound'].mean():.2g}",
            f"{part['quality_gain'].mean():+.4f}",
        ]
        for (score, budget, way), part in rows.groupby(["score", "budget", "way"], sort=False)
    ]
    return markdown(head, lines)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = study.parser("budget", __doc__)
    parser.add_argument("--orders", type=int, default=20, help="random orders of the prompts (default: 20)")
    return run(
        parser, arguments, CSV, lambda chosen: study.measure_each(measure, chosen, chosen.orders), table
    )


if __name__ == "__main__":
    run_stage(main)
