"""Everything that is measured of a router on prompts whose true scores are known."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from promptroute.evaluation import bootstrap, metrics
from promptroute.routing import policies
from promptroute.routing.calibrate import Calibration, Target
from promptroute.routing.checks import FloatArray, IntArray
from promptroute.routing.frontier import hull, trace
from promptroute.routing.steps import Policy


def choices(
    predicted: FloatArray,
    true: FloatArray,
    cost: FloatArray,
    models: Sequence[str],
    calibrations: Mapping[Policy, Mapping[Target, Calibration]],
    seed: int,
) -> dict[str, IntArray]:
    """Each strategy's choice [n], by the name that it has in every table.

    `oracle` sees the true quality; `single_MODEL` and `random` see nothing; the others see the prediction:
    `best_predicted` (CEMS), `under_budget` (the best single model's total cost as budget), and each
    calibrated policy for each target, as `cost_aware_quality`.
    """
    best = metrics.best_single(true)
    found = {"oracle": policies.best_predicted(true, cost)}
    for column, model in enumerate(models):
        found[f"single_{model}"] = policies.single(true, cost, model=column)
    found["random"] = policies.random_choice(true, cost, seed=seed)
    found["best_predicted"] = policies.best_predicted(predicted, cost)
    found["under_budget"] = policies.under_budget(predicted, cost, budget=float(cost[best] * len(true)))
    for policy, targets in calibrations.items():
        for target, calibration in targets.items():
            found[f"{policy}_{target}"] = calibration.decide(predicted, cost)
    return found


def strategy_rows(
    true: FloatArray,
    raw: Mapping[str, FloatArray],
    cost: FloatArray,
    models: Sequence[str],
    chosen: Mapping[str, IntArray],
) -> dict[str, dict[str, Any]]:
    """The cost table: strategy → mean quality and regret, each raw score's mean, dollars, shares per model.

    `cost` of a row is in dollars per image (one request, as in CEMS), `total_cost` in dollars for all prompts.
    """
    rows = {}
    for name, choice in chosen.items():
        row = metrics.strategy(true, cost, choice)
        rows[name] = {
            "quality": row.quality,
            **{score: float(values[np.arange(len(choice)), choice].mean()) for score, values in raw.items()},
            "cost": row.cost,
            "total_cost": row.total_cost,
            "regret": row.regret,
            "share": dict(zip(models, row.share, strict=True)),
        }
    return rows


def evaluate(
    predicted: FloatArray,
    true: FloatArray,
    raw: Mapping[str, FloatArray],
    cost: FloatArray,
    models: Sequence[str],
    decided: IntArray,
    calibrations: Mapping[Policy, Mapping[Target, Calibration]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Measure a router on n prompts.

    Args:
        predicted, true: quality [n, m], higher is better.
        raw: score name → [n, m] in the score's own unit.
        cost: dollars per image [m].
        models: m names.
        decided: the router's own choice [n].
        calibrations: policy → target → knob, chosen on other prompts than these.
        resamples: bootstrap resamples of the prompts behind each 95 % interval; 0: no intervals (their ends are NaN).
        seed: of the bootstrap and of the random strategy.

    Returns:
        A nested dict of plain values:
        `best_single`: name of the model with the highest mean true quality on these prompts;
        `frontier`: iso_quality_cost, oracle_gap_closed and frontier_area (see `promptroute.evaluation.metrics`), read
        off the frontier of `cost_aware` on these prompts, each as `bootstrap.Interval`;
        `router`: the same for its own choice, whose knob was set on other prompts (`choice_intervals`);
        `choice`: accuracy, macro precision, recall, F1 and AUC of the router and of `best_predicted`;
        `strategies`: see `strategy_rows`; the router's own choice is called `router`.
    """
    best = metrics.best_single(true)
    found = choices(predicted, true, cost, models, calibrations, seed)
    found["router"] = decided
    # One seed for both: the same resamples stand behind every interval.
    frontier = bootstrap.headline(predicted, true, cost, seed=seed, points=None, resamples=0)
    thinned = bootstrap.headline(predicted, true, cost, seed=seed, resamples=resamples)
    own = bootstrap.choice_intervals(true, cost, decided, seed=seed, resamples=resamples)
    return {
        "prompts": len(true),
        "best_single": models[best],
        "frontier": {
            name: {**asdict(thinned[name]), "estimate": frontier[name].estimate} for name in thinned
        },
        "router": {name: asdict(interval) for name, interval in own.items()},
        "choice": {
            name: asdict(metrics.choice_metrics(true, predicted, found[name]))
            for name in ("router", "best_predicted")
        },
        "strategies": strategy_rows(true, raw, cost, models, found),
    }


def frontier_points(
    predicted: FloatArray, true: FloatArray, cost: FloatArray, points: int = 200
) -> dict[str, list[dict[str, float]]]:
    """Points of the cost-quality plane for the plots.

    `frontier`: knob, cost and quality of `cost_aware` over λ, thinned to `points`; `hull`: the vertices of
    its non-decreasing convex hull.
    """
    curve = trace(predicted, true, cost, points=points)
    outline = hull(curve.cost, curve.quality)
    return {
        "frontier": [
            {"tradeoff": float(k), "cost": float(c), "quality": float(q)}
            for k, c, q in zip(curve.knobs, curve.cost, curve.quality, strict=True)
        ],
        "hull": [
            {"cost": float(c), "quality": float(q)}
            for c, q in zip(outline.cost, outline.quality, strict=True)
        ],
    }
