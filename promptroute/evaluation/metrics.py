"""How good choices are: against each prompt's best model, in dollars, and against the best single model.

Pure functions on arrays: observed quality [n, m] (n >= 1, higher is better), cost [m] dollars per image,
choice [n]. The best single model is the column of the highest mean observed quality on the prompts given
(ties: the lower index), unless `single` names one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promptroute.routing import checks
from promptroute.routing.checks import BoolArray, FloatArray, IntArray
from promptroute.routing.frontier import Hull, area, cost_at, hull, quality_at, trace
from promptroute.routing.steps import StepsOf, tradeoff_steps

HARDLY = 0.1
"""A gap to the oracle shorter than this share of a router's distance from the best single model is hardly one."""


@dataclass(frozen=True)
class ChoiceMetrics:
    """The choice seen as a classification into the best model; each from 0 to 1, higher is better."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float


def labels(true: npt.ArrayLike, choice: npt.ArrayLike) -> IntArray:
    """Return each prompt's best model [n]; among several best ones the chosen one, else the lowest column."""
    truth = checks.some_prompts(true)
    chosen = checks.choice_vector(choice, truth.shape)
    best = _best(truth)
    return np.where(best[np.arange(len(best)), chosen], chosen, best.argmax(axis=1)).astype(np.int64)


def confusion(true: npt.ArrayLike, choice: npt.ArrayLike) -> IntArray:
    """Return counts [m, m] int64: row = the best model (by `labels`), column = the chosen one."""
    truth = checks.some_prompts(true)
    m = truth.shape[1]
    pairs = labels(truth, choice) * m + checks.choice_vector(choice, truth.shape)
    return np.bincount(pairs, minlength=m * m).reshape(m, m).astype(np.int64)


def choice_metrics(true: npt.ArrayLike, predicted: npt.ArrayLike, choice: npt.ArrayLike) -> ChoiceMetrics:
    """Return accuracy, macro precision, recall and F1, and one-vs-rest macro AUC of the choice.

    Any of several equally best models is right (`labels`), for all but the AUC alike. Precision, recall and
    F1 are means over the models that are best or chosen at least once, 0 where undefined, as scikit-learn
    has it. The AUC takes "j is among the best" as truth and predicted[i, j] - mean_k predicted[i, k] as
    score: for class probabilities that ranks as they do, for predicted quality it takes out how hard the
    prompt is. It is the mean over the models that are best on some prompts and not on others, else NaN.
    """
    truth = checks.some_prompts(true)
    guess = checks.quality_matrix(predicted, "predicted")
    if guess.shape != truth.shape:
        raise ValueError(f"predicted has shape {guess.shape} and true {truth.shape}: expected the same")
    counts = confusion(truth, choice)
    hits, best, chosen = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    seen = (best + chosen) > 0
    return ChoiceMetrics(
        accuracy=float(hits.sum() / counts.sum()),
        precision=float(_ratio(hits, chosen)[seen].mean()),
        recall=float(_ratio(hits, best)[seen].mean()),
        f1=float(_ratio(2 * hits, best + chosen)[seen].mean()),
        auc=_macro_auc(_best(truth), guess - guess.mean(axis=1, keepdims=True)),
    )


@dataclass(frozen=True)
class Strategy:
    """A row of the cost table. Mean observed quality, dollars per image, dollars in all, and:

    `share`: each model's share of the prompts, in column order; `regret`: the oracle's mean quality less
    this one's, 0 or more, lower is better.
    """

    quality: float
    cost: float
    total_cost: float
    share: tuple[float, ...]
    regret: float


def strategy(true: npt.ArrayLike, cost: npt.ArrayLike, choice: npt.ArrayLike) -> Strategy:
    """Return what a choice yields and costs on these prompts."""
    truth = checks.some_prompts(true)
    price = checks.cost_vector(cost, truth.shape[1])
    chosen = checks.choice_vector(choice, truth.shape)
    counts = np.bincount(chosen, minlength=len(price))
    total = float(counts @ price)
    quality = truth[np.arange(len(truth)), chosen]
    return Strategy(
        quality=float(quality.mean()),
        cost=total / len(truth),
        total_cost=total,
        share=tuple((counts / len(truth)).tolist()),
        regret=float((truth.max(axis=1) - quality).mean()),
    )


def strategies(
    true: npt.ArrayLike, cost: npt.ArrayLike, choices: Mapping[str, npt.ArrayLike]
) -> dict[str, Strategy]:
    """Return a `strategy` per named choice, in the order given."""
    return {name: strategy(true, cost, choice) for name, choice in choices.items()}


def best_single(true: npt.ArrayLike) -> int:
    """Return the column of the highest mean observed quality; ties go to the lower index."""
    return checks.best_single(checks.some_prompts(true))


def best_per_set(true: npt.ArrayLike, sets: npt.ArrayLike, asked: npt.ArrayLike) -> IntArray:
    """Return the best single model of each prompt's set [k]: what knowing the set alone is worth.

    Args:
        true: observed quality [n, m] of the prompts to learn from, n >= 1.
        sets: their prompt sets [n].
        asked: sets of the prompts to choose for [k]; for a set that wasn't learnt, the best of all prompts is chosen.
    """
    truth, names = checks.some_prompts(true), np.asarray(sets)
    known = {name: best_single(truth[names == name]) for name in set(names.tolist())}
    other = best_single(truth)
    return np.array([known.get(name, other) for name in np.asarray(asked).tolist()], np.int64)


def regret(true: npt.ArrayLike, choice: npt.ArrayLike) -> FloatArray:
    """Return per prompt [n] what the choice gives away: max_j true[i, j] - true[i, choice[i]], 0 or more."""
    truth = checks.some_prompts(true)
    chosen = checks.choice_vector(choice, truth.shape)
    return np.asarray(truth.max(axis=1) - truth[np.arange(len(truth)), chosen])


def iso_quality_cost(
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    cost: npt.ArrayLike,
    *,
    single: int | None = None,
    steps_of: StepsOf = tradeoff_steps,
    most: int | None = None,
) -> float:
    """Return the least cost of the best single model's mean quality, relative to that model, less 1.

    cost_at(hull, quality of single) / cost of single - 1, on the hull of the policy's frontier: -0.25 is
    25 % cheaper, lower is better; NaN where the router never reaches that quality. The point on the
    frontier is read off these very prompts; `calibrate` sets operating points ahead, on validation.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    model = checks.best_single(truth, single)
    curve = _hull(guess, truth, price, steps_of, most)
    return iso_cost_on(curve, float(truth[:, model].mean()), float(price[model]))


def oracle_gap_closed(
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    cost: npt.ArrayLike,
    *,
    single: int | None = None,
    steps_of: StepsOf = tradeoff_steps,
    most: int | None = None,
) -> float:
    """Return how far the router gets from the best single model to the oracle at no more than its cost.

    (quality_at(hull, cost of single) - quality of single) / (quality of the oracle - quality of single):
    1 is the oracle, 0 the best single model, below 0 worse than that. The oracle takes each prompt's best
    model whatever it costs. NaN where the oracle is hardly better than the best single model (`gap_closed`).
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    model = checks.best_single(truth, single)
    reached = quality_at(_hull(guess, truth, price, steps_of, most), float(price[model]))
    return float(gap_closed(reached, truth[:, model].mean(), truth.max(axis=1).mean()))


def frontier_area(
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    cost: npt.ArrayLike,
    *,
    steps_of: StepsOf = tradeoff_steps,
    most: int | None = None,
) -> float:
    """Return the mean quality of the frontier's hull from the cheapest to the most expensive model's cost.

    `frontier.area`, in units of quality, higher is better; with one price for all models, the hull's quality.
    """
    guess, truth, price = checks.evaluation(predicted, true, cost)
    return area_on(_hull(guess, truth, price, steps_of, most), price)


def iso_cost_on(curve: Hull, single_quality: float, single_cost: float) -> float:
    """Return the iso-quality cost (see `iso_quality_cost`) read off a hull."""
    return float(cost_at(curve, single_quality) / single_cost - 1)


def gap_closed(quality: npt.ArrayLike, single: npt.ArrayLike, oracle: npt.ArrayLike) -> FloatArray:
    """Return (quality - single) / (oracle - single), elementwise for mean qualities; NaN where undefined.

    It is undefined where the best single model is the oracle, or all but: where the gap between them is less
    than a tenth of the distance from that model, a share of it (thousands of percent) says nothing.
    """
    alone = np.asarray(single, dtype=np.float64)
    gap = np.asarray(oracle, dtype=np.float64) - alone
    gain = np.asarray(quality, dtype=np.float64) - alone
    fine = (gap > 0) & (gap >= HARDLY * np.abs(gain))
    return np.where(fine, gain / np.where(fine, gap, 1.0), np.nan)


def area_on(curve: Hull, cost: FloatArray) -> float:
    """Return `frontier.area` of a hull over the range of the models' costs [m]."""
    low, high = float(cost.min()), float(cost.max())
    return area(curve, low, high) if low < high else float(curve.quality[-1])


def _hull(
    predicted: FloatArray, true: FloatArray, cost: FloatArray, steps_of: StepsOf, most: int | None
) -> Hull:
    curve = trace(predicted, true, cost, steps_of=steps_of, most=most)
    return hull(curve.cost, curve.quality)


def _best(true: FloatArray) -> BoolArray:
    return np.asarray(true == true.max(axis=1, keepdims=True))


def _ratio(part: IntArray, whole: IntArray) -> FloatArray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _macro_auc(positive: BoolArray, score: FloatArray) -> float:
    from scipy.stats import rankdata

    yes, no = positive.sum(axis=0), (~positive).sum(axis=0)
    both = (yes > 0) & (no > 0)
    if not both.any():
        return float("nan")
    # The Mann-Whitney statistic: the share of (best, not best) pairs ranked right, ties by half.
    rank_sum = np.where(positive, rankdata(score, axis=0), 0.0).sum(axis=0)
    wins = rank_sum - yes * (yes + 1) / 2
    return float((wins[both] / (yes[both] * no[both])).mean())
