"""How far people agree: with one another, with themselves, and a scorer with them.

Every interval is a percentile bootstrap over what was judged (Efron & Tibshirani, 1993, chapter 13): units, or prompts
where several votes are about one prompt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain
from promptroute.evaluation.bootstrap import Interval

Level = Literal["nominal", "ordinal", "interval"]
QUARTERS = 4
"""Parts of equal size that votes are sorted into by a score's margin."""


def value_counts(ratings: pd.DataFrame, unit: str, value: str) -> np.ndarray:
    """Count how often each value was given to each unit.

    Args:
        ratings: a row a rating; a gap is a row that isn't there, or whose value is null.
        unit: column of what was rated.
        value: column of the rating; its sorted values are the categories.

    Returns:
        int64 [units, values]: units in order of their first row, values ascending.
    """
    given = ratings.dropna(subset=[value])
    return pd.crosstab(given[unit], given[value])[sorted(given[value].unique())].to_numpy(np.int64)


def alpha(counts: np.ndarray, level: Level = "nominal") -> float:
    """Return Krippendorff's α: 1 is perfect agreement, 0 that of chance; gaps are allowed.

    Krippendorff, Content Analysis (2004), chapter 11. NaN where nothing varies or no unit has two ratings, as nothing
    says then what chance would give.

    Args:
        counts: how often each value was given to each unit, int [units, values], values ascending.
        level: what a difference between values means.
    """
    import krippendorff

    pairable = counts[counts.sum(axis=1) > 1]
    if (pairable.sum(axis=0) > 0).sum() < 2:
        return float("nan")
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement=level))


def fleiss_kappa(counts: np.ndarray) -> float:
    """Return Fleiss' κ (1971) over the units that as many people rated as any; NaN where nothing varies.

    Args:
        counts: as of `alpha`.
    """
    from statsmodels.stats.inter_rater import fleiss_kappa as kappa

    raters = counts.sum(axis=1)
    whole = counts[raters == raters.max()] if len(counts) else counts
    if raters.max(initial=0) < 2 or (whole.sum(axis=0) > 0).sum() < 2:
        return float("nan")
    return float(kappa(whole))


def cohen_kappa(first: np.ndarray, second: np.ndarray, weights: str | None = None) -> float:
    """Return Cohen's κ (1960) of two raters on the units that both rated, [n] values each; NaN where nothing varies.

    Args:
        first, second: their ratings, unit by unit.
        weights: None; or "linear" or "quadratic" for ordered values.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    values = np.unique(np.concatenate([first, second]))
    if len(values) < 2:
        return float("nan")
    table = np.zeros((len(values), len(values)))
    np.add.at(table, (np.searchsorted(values, first), np.searchsorted(values, second)), 1)
    return float(cohens_kappa(table, wt=weights, return_results=False))


def resampled(
    statistic: Callable[[np.ndarray], float], units: int, *, seed: int, resamples: int = 1000
) -> Interval:
    """Return a statistic of n units, and its 95 % percentile interval over resamples of the units.

    Args:
        statistic: of the rows at int64 positions [n], with repetitions.
        units: n.
        seed: of the resamples.
        resamples: 0: no interval (NaN).
    """
    estimate = statistic(np.arange(units))
    generator = np.random.default_rng(seed)
    values = np.array([statistic(generator.integers(units, size=units)) for _ in range(resamples)])
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(estimate, np.nan, np.nan, 1.0 if resamples else np.nan)
    low, high = np.quantile(defined, [0.025, 0.975]).tolist()
    return Interval(estimate, low, high, 1 - len(defined) / len(values))


@dataclass(frozen=True)
class RaterAgreement:
    """How far raters agree.

    Attributes:
        units, raters, ratings: how many.
        figures: `alpha_nominal`, `fleiss_kappa` and, where values have an order, α of their level, with intervals.
        cohen_kappa: "A / B" → κ of every two raters that share two units or more, linearly weighted where values have
            an order.
    """

    units: int
    raters: int
    ratings: int
    figures: dict[str, Interval]
    cohen_kappa: dict[str, float]


def rater_agreement(
    ratings: pd.DataFrame, level: Level, *, seed: int, resamples: int = 1000
) -> RaterAgreement:
    """Measure how far raters agree.

    Args:
        ratings: columns `unit`, `rater`, `value`; one row for each unit that a rater rated.
        level: of the values.
        seed, resamples: of the bootstrap over units.

    Raises:
        UserError: a rater rated a unit twice.
    """
    repeated = ratings[ratings.duplicated(["unit", "rater"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise UserError(f"{row['rater']} rated {row['unit']} twice; keep one rating of each unit and rater")
    counts = value_counts(ratings, "unit", "value")
    figures: dict[str, Callable[[np.ndarray], float]] = {
        "alpha_nominal": lambda rows: alpha(counts[rows], "nominal"),
        "fleiss_kappa": lambda rows: fleiss_kappa(counts[rows]),
    }
    if level != "nominal":
        figures[f"alpha_{level}"] = lambda rows: alpha(counts[rows], level)
    return RaterAgreement(
        len(counts),
        int(ratings["rater"].nunique()),
        int(counts.sum()),
        {
            name: resampled(figure, len(counts), seed=seed, resamples=resamples)
            for name, figure in figures.items()
        },
        _every_two(ratings, None if level == "nominal" else "linear"),
    )


def _every_two(ratings: pd.DataFrame, weights: str | None) -> dict[str, float]:
    table = ratings.pivot(index="unit", columns="rater", values="value")
    found = {}
    for place, first in enumerate(table.columns):
        for second in table.columns[place + 1 :]:
            both = table[[first, second]].dropna()
            if len(both) > 1:
                found[f"{first} / {second}"] = cohen_kappa(
                    both[first].to_numpy(), both[second].to_numpy(), weights
                )
    return found


def majority(votes: pd.DataFrame) -> pd.DataFrame:
    """Return what most people chose, for each prompt and pair of models.

    Args:
        votes: columns `prompt_id`, `first`, `second` (models, in one order for each pair) and `lead`: 1 where the
            first was chosen, -1 the second, 0 a tie.

    Returns:
        A row each: `prompt_id`, `first`, `second`, `lead` (1, -1; 0 undecided), `votes`.
    """
    grouped = votes.groupby(["prompt_id", "first", "second"], sort=False)["lead"]
    table = grouped.agg(["sum", "size"]).reset_index()
    return table.assign(lead=np.sign(table["sum"]), votes=table["size"]).drop(columns=["sum", "size"])


def scorer_agreement(
    votes: pd.DataFrame, scores: Mapping[tuple[str, str], float], *, seed: int, resamples: int = 1000
) -> Plain:
    """Measure how often a score chooses what most people chose (94 % in arXiv 2404.08799, section 4).

    Args:
        votes: as of `majority`.
        scores: (prompt_id, model) → score, higher is better.
        seed, resamples: of the bootstrap over prompts.

    Returns:
        `pairs` that people decided and the score covers; `undecided`, `unscored`: those left out; `agreement`: the
        share with its interval, a score's tie counting half; `by_margin`: the share in each quarter of |difference|
        of scores, the smallest first, as {low, high, pairs, agreement}.
    """
    chosen = majority(votes)
    decided = chosen[chosen["lead"] != 0]
    margin = np.array(
        [
            scores.get((prompt, first), np.nan) - scores.get((prompt, second), np.nan)
            for prompt, first, second in decided[["prompt_id", "first", "second"]].to_numpy(str).tolist()
        ],
        np.float64,
    )
    known = ~np.isnan(margin)
    margin, decided = margin[known], decided[known]
    right = np.where(margin == 0, 0.5, np.sign(margin) == decided["lead"])
    prompts, of = np.unique(decided["prompt_id"].to_numpy(str), return_inverse=True)
    # Sums by prompt, so that a resample of prompts is two sums.
    hits, sizes = np.bincount(of, right, len(prompts)), np.bincount(of, minlength=len(prompts))

    def share(rows: np.ndarray) -> float:
        return float(hits[rows].sum() / sizes[rows].sum()) if len(rows) else float("nan")

    size = np.abs(margin)
    parts = np.array_split(np.argsort(size, kind="stable"), QUARTERS) if len(size) >= QUARTERS else []
    return {
        "pairs": len(decided),
        "undecided": int((chosen["lead"] == 0).sum()),
        "unscored": int((~known).sum()),
        "agreement": resampled(share, len(prompts), seed=seed, resamples=resamples),
        "by_margin": [
            {
                "low": float(size[part].min()),
                "high": float(size[part].max()),
                "pairs": len(part),
                "agreement": float(right[part].mean()),
            }
            for part in parts
        ],
    }


def side_bias(sides: np.ndarray) -> Plain:
    """Measure whether raters prefer a side whatever stands there.

    Args:
        sides: 1 where the left was chosen, -1 the right; ties left out.

    Returns:
        `votes`; `left`: the share of the left, with Wilson's interval; `p`: of the exact binomial test of one half.
    """
    from scipy import stats

    left, total = int((sides == 1).sum()), len(sides)
    if not total:
        return {"votes": 0, "left": Interval(np.nan, np.nan, np.nan, 1.0), "p": 1.0}
    test = stats.binomtest(left, total)
    ends = test.proportion_ci(0.95, method="wilson")
    return {
        "votes": total,
        "left": Interval(left / total, float(ends.low), float(ends.high), 0.0),
        "p": float(test.pvalue),
    }


def self_agreement(votes: pd.DataFrame) -> dict[str, Plain]:
    """Measure how often each rater chose the same again, where a pair was shown to them twice.

    Args:
        votes: columns `rater`, `prompt_id`, `first`, `second`, `lead`, in order of time.

    Returns:
        rater → `repeats`, `same` (share). Raters without repeats are left out.
    """
    found = {}
    for rater, rows in votes.groupby("rater", sort=True):
        pairs = [
            group["lead"].to_numpy()
            for _, group in rows.groupby(["prompt_id", "first", "second"], sort=False)
        ]
        again = np.concatenate([leads[1:] == leads[0] for leads in pairs])
        if len(again):
            found[str(rater)] = {"repeats": len(again), "same": float(again.mean())}
    return found
