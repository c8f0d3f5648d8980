"""Percentile bootstrap over prompts, for figures that are functions of means.

A resample takes n prompts with replacement, so it is a vector of counts, and all means of all resamples
are one product of matrices: counts [resamples, n] times columns [n, k].
Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.text import short
from promptroute.evaluation import metrics
from promptroute.routing import checks
from promptroute.routing.checks import Array, FloatArray
from promptroute.routing.frontier import hull, quality_at, visits
from promptroute.routing.steps import tradeoff_steps

Statistic = Callable[[FloatArray], Mapping[str, FloatArray]]

MOST = 1_000_000
"""Resamples, at most."""
_TAIL = 0.025  # of the resamples beyond either end of an interval
_AT_ONCE = 100  # resamples whose counts are held at once


@dataclass(frozen=True)
class Interval:
    """A figure on all prompts (`estimate`) and its percentile interval over the resamples, in its own unit.

    `undefined` is the share of resamples where the figure is NaN (a quality never reached, say). They rank
    above all others, so that an end of the interval is NaN where it falls among them. Without resamples,
    or with a single prompt, which can't vary, all but the estimate is NaN; of any other figure that doesn't vary, the ends.
    """

    estimate: float
    low: float
    high: float
    undefined: float


def check_resamples(value: object, where: str) -> int:
    """Return a number of resamples.

    Raises:
        UserError: it is no whole number from 0 to `MOST`; names `where`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where} is {short(value)}; give a whole number, 0 for no intervals")
    if value > MOST:
        raise UserError(
            f"{where} is {short(value)}; give {MOST:,} at most, as more change no digit that is shown"
        )
    return value


def intervals(
    columns: Array, statistic: Statistic, *, seed: int, resamples: int = 1000
) -> dict[str, Interval]:
    """Return the 95 % interval of every figure of `statistic`, both tails alike.

    `columns` [n, k], n >= 1: one row per prompt. `statistic` takes means of the columns [b, k] and returns
    each figure's values [b] by name. The generator is numpy's default with `seed`. With 0 resamples, or
    one prompt, only the figures' values are computed; a figure that no resample changes has no interval either.
    """
    table = checks.quality_matrix(columns, "columns")
    n = len(table)
    check_resamples(resamples, "resamples")
    if n == 0:
        raise UserError("0 prompts: expected one prompt or more")
    on_all = statistic(table.mean(axis=0, keepdims=True))
    if resamples == 0 or n == 1:
        return {name: Interval(float(value[0]), np.nan, np.nan, np.nan) for name, value in on_all.items()}
    parts = [statistic(counts @ table / n) for counts in _counts(n, resamples, seed)]
    found = {}
    for name, value in on_all.items():
        values = np.concatenate([part[name] for part in parts])
        undefined = np.isnan(values)
        with np.errstate(invalid="ignore"):
            ends = np.quantile(np.where(undefined, np.inf, values), [_TAIL, 1 - _TAIL])
        if ends[0] == ends[1]:  # no resample changes it: that it is certain is not what the prompts tell
            ends = np.full(2, np.nan)
        low, high = np.where(np.isfinite(ends), ends, np.nan).tolist()
        found[name] = Interval(float(value[0]), low, high, float(undefined.mean()))
    return found


def headline(
    predicted: Array, true: Array, cost: Array, *, seed: int, most: int | None = 200, resamples: int = 1000
) -> dict[str, Interval]:
    """Return the intervals of `iso_quality_cost`, `oracle_gap_closed` and `frontier_area` (module `metrics`).

    The operating points stay those of the frontier on all prompts, at most `most` of them (None: every one,
    slower); its hull is taken again in each resample. So is the best single model: the figures carry the doubt about
    which model that is. The estimate is the metric's value at these points.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    curve = choosing_curve(guess, truth, price, most=most)
    return curve_intervals(*curve, truth, price, seed=seed, resamples=resamples)


def choosing_curve(
    predicted: FloatArray, true: FloatArray, cost: FloatArray, *, most: int | None = 200
) -> tuple[FloatArray, FloatArray]:
    """Return dollars and observed quality of each prompt [n, k] at the operating points of choosing before generating."""
    steps = tradeoff_steps(predicted, cost)
    taken = visits(steps)[1]
    if most is not None:
        taken = taken[np.unique(np.linspace(0, len(taken) - 1, most).round().astype(np.int64))]
    choices = np.stack([steps.choice(int(count)) for count in taken], axis=1)
    return cost[choices], np.take_along_axis(true, choices, axis=1)


def curve_intervals(
    spent: FloatArray,
    gained: FloatArray,
    truth: FloatArray,
    price: FloatArray,
    *,
    seed: int,
    resamples: int = 1000,
    against: tuple[FloatArray, FloatArray] | None = None,
) -> dict[str, Interval]:
    """Return the intervals of `headline` for any policy, from each prompt's dollars and quality at its k points.

    Args:
        spent, gained: [n, k].
        truth, price: of the models alone, [n, m] and [m].
        seed, resamples: as of `intervals`.
        against: dollars and quality [n, points] of another policy at its points: `area_lead` is how far the area under its
            frontier is below, paired by prompt.
    """
    k = spent.shape[1]
    other = np.empty((len(spent), 0)) if against is None else np.concatenate(against, axis=1)
    points = other.shape[1] // 2
    table = np.concatenate([spent, gained, other, truth, truth.max(axis=1, keepdims=True)], axis=1)

    def statistic(means: FloatArray) -> dict[str, FloatArray]:
        ends = np.cumsum([k, k, points, points])
        spent, gained, spent_before, before, each, oracle = np.split(means, [*ends, -1], axis=1)
        alone, alone_cost = each.max(axis=1), price[each.argmax(axis=1)]
        iso, share, area, lead = (np.empty(len(means)) for _ in range(4))
        for b in range(len(means)):
            curve = hull(spent[b], gained[b])
            own, own_cost = float(alone[b]), float(alone_cost[b])
            iso[b] = metrics.iso_cost_on(curve, own, own_cost)
            share[b] = metrics.gap_closed(quality_at(curve, own_cost), own, oracle[b, 0])
            area[b] = metrics.area_on(curve, price)
            if against is not None:
                lead[b] = area[b] - metrics.area_on(hull(spent_before[b], before[b]), price)
        found = {"iso_quality_cost": iso, "oracle_gap_closed": share, "frontier_area": area}
        return found if against is None else {**found, "area_lead": lead}

    return intervals(table, statistic, seed=seed, resamples=resamples)


def outcome_intervals(
    truth: FloatArray,
    price: FloatArray,
    gained: FloatArray,
    paid: FloatArray,
    *,
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Return the intervals of what a policy gave on these prompts, as with an operating point set on validation.

    `quality` and `cost` (dollars a prompt) are means; `quality_gain` is quality less the best single model's,
    `cost_change` cost relative to that model's less 1, `oracle_gap_closed` the gain as a share of the oracle's
    (whatever was paid). The best single model is found again in each resample.

    Args:
        truth, price: of the models alone, [n, m] and [m].
        gained, paid: each prompt's quality and dollars, [n] both.
        seed, resamples: as of `intervals`.
    """
    table = np.column_stack([gained, paid, truth.max(axis=1), truth])

    def statistic(means: FloatArray) -> dict[str, FloatArray]:
        quality, spent, oracle, each = means[:, 0], means[:, 1], means[:, 2], means[:, 3:]
        alone = each.max(axis=1)
        return {
            "quality": quality,
            "cost": spent,
            "quality_gain": quality - alone,
            "cost_change": spent / price[each.argmax(axis=1)] - 1,
            "oracle_gap_closed": metrics.gap_closed(quality, alone, oracle),
        }

    return intervals(table, statistic, seed=seed, resamples=resamples)


def paired_intervals(
    gained: FloatArray,
    paid: FloatArray,
    other: FloatArray,
    other_paid: FloatArray,
    *,
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Return the intervals of one policy's figures against another's on the same prompts.

    `quality_gain` is the mean difference in quality, `cost_change` the ratio of mean costs less 1.

    Args:
        gained, paid: each prompt's quality and dollars with the one, [n] both.
        other, other_paid: with the other.
        seed, resamples: as of `intervals`.
    """

    def statistic(means: FloatArray) -> dict[str, FloatArray]:
        return {"quality_gain": means[:, 0] - means[:, 1], "cost_change": means[:, 2] / means[:, 3] - 1}

    table = np.column_stack([gained, other, paid, other_paid])
    return intervals(table, statistic, seed=seed, resamples=resamples)


def _counts(n: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    generator = np.random.default_rng(seed)
    even = np.full(n, 1 / n)
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        yield generator.multinomial(n, even, size=size).astype(np.float64)
