"""How good choices are: against each prompt's best model, in dollars, and against the best single model.

Pure functions on arrays: observed quality [n, m] (n >= 1, higher is better), cost [m] dollars per image,
choice [n]. The best single model is the column of the highest mean observed quality on the prompts given
(ties: the lower index), unless `single` names one.
"""

from dataclasses import dataclass

import numpy as np

from promptroute.routing import checks
from promptroute.routing.checks import Array, BoolArray, FloatArray, IntArray
from promptroute.routing.frontier import Hull, area, cost_at

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


def labels(true: Array, choice: Array) -> IntArray:
    """Return each prompt's best model [n]; among several best ones the chosen one, else the lowest column."""
    truth = checks.some_prompts(true)
    chosen = checks.choice_vector(choice, truth.shape)
    best = _best(truth)
    return np.where(best[np.arange(len(best)), chosen], chosen, best.argmax(axis=1)).astype(np.int64)


def confusion(true: Array, choice: Array) -> IntArray:
    """Return counts [m, m] int64: row = the best model (by `labels`), column = the chosen one."""
    truth = checks.some_prompts(true)
    m = truth.shape[1]
    pairs = labels(truth, choice) * m + checks.choice_vector(choice, truth.shape)
    return np.bincount(pairs, minlength=m * m).reshape(m, m).astype(np.int64)


def choice_metrics(true: Array, predicted: Array, choice: Array) -> ChoiceMetrics:
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


def strategy(true: Array, cost: Array, choice: Array) -> Strategy:
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


def best_single(true: Array) -> int:
    """Return the column of the highest mean observed quality; ties go to the lower index."""
    return checks.best_single(checks.some_prompts(true))


def best_per_set(true: Array, sets: Array, asked: Array) -> IntArray:
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


def iso_cost_on(curve: Hull, single_quality: float, single_cost: float) -> float:
    """Return the least cost of the best single model's mean quality, relative to that model, less 1.

    cost_at(hull, quality of single) / cost of single - 1, on the hull of a policy's frontier: -0.25 is 25 % cheaper,
    lower is better; NaN where the router never reaches that quality. Where the frontier is that of the very prompts
    that judge, no operating point was set ahead, as `calibrate` does.
    """
    return float(cost_at(curve, single_quality) / single_cost - 1)


def gap_closed(quality: Array, single: Array, oracle: Array) -> FloatArray:
    """Return (quality - single) / (oracle - single), elementwise for mean qualities; NaN where undefined.

    1 is the oracle, which takes each prompt's best model whatever it costs, 0 the best single model, below 0 worse.

    It is undefined where the best single model is the oracle, or all but: where the gap between them is less
    than a tenth of the distance from that model, a share of it (thousands of percent) says nothing.
    """
    alone = np.asarray(single, dtype=np.float64)
    gap = np.asarray(oracle, dtype=np.float64) - alone
    gain = np.asarray(quality, dtype=np.float64) - alone
    fine = (gap > 0) & (gap >= HARDLY * np.abs(gain))
    return np.where(fine, gain / np.where(fine, gap, 1.0), np.nan)


def area_on(curve: Hull, cost: FloatArray) -> float:
    """Return the mean quality of a hull from the cheapest to the most expensive model's cost, of costs [m].

    `frontier.area`, in units of quality, higher is better; with one price for all models, the hull's quality.
    """
    low, high = float(cost.min()), float(cost.max())
    return area(curve, low, high) if low < high else float(curve.quality[-1])


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
