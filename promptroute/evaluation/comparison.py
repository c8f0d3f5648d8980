"""Do models differ in a score? The consistency study's statistics, for any score paired by prompt."""

import itertools
from collections.abc import Mapping

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain


def compare_models(scores: Mapping[str, np.ndarray]) -> Plain:
    """Describe each model's scores, and test every pair of models for a difference.

    Per model: mean, median, standard deviation (n - 1), and the Kolmogorov–Smirnov test against the normal
    distribution of that mean and deviation (its p is on the large side, because both are estimated from the
    same scores). Per pair: the two-sample Kolmogorov–Smirnov test, and Wilcoxon's signed-rank test paired by
    prompt. p-values of a pair are corrected for the number of pairs (Holm 1979: the family-wise error stays below the level), each test by itself.

    Bent, CVPR 2024 workshops (arXiv 2404.08799), section 3, there without the correction.

    Args:
        scores: model → [n] scores, prompt by prompt in the same order, no NaN.

    Returns:
        {"prompts": n, "models": {model: {mean, median, std, ks_normal, ks_normal_p}},
        "pairs": {"A / B": {mean_difference, ks, ks_p, wilcoxon, wilcoxon_p}}}. A test that says nothing
        (scores that are all equal) has statistic NaN and p 1.

    Raises:
        UserError: fewer than two prompts, or models with other numbers of them.
    """
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    values = {model: np.asarray(column, np.float64) for model, column in scores.items()}
    lengths = {model: len(column) for model, column in values.items()}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 2:
        raise UserError(f"scores per model: {lengths}; give each model the same prompts, two or more")
    models = {}
    for model, column in values.items():
        std = float(column.std(ddof=1))
        normal = stats.kstest(column, "norm", args=(column.mean(), std)) if std > 0 else None
        models[model] = {
            "mean": float(column.mean()),
            "median": float(np.median(column)),
            "std": std,
            "ks_normal": float(normal.statistic) if normal else np.nan,
            "ks_normal_p": float(normal.pvalue) if normal else 1.0,
        }
    pairs: dict[str, dict[str, float]] = {}
    for a, b in itertools.combinations(values, 2):
        two_sample = stats.ks_2samp(values[a], values[b])
        difference = values[a] - values[b]
        signed = stats.wilcoxon(difference) if difference.any() else None
        pairs[f"{a} / {b}"] = {
            "mean_difference": float(difference.mean()),
            "ks": float(two_sample.statistic),
            "ks_p": float(two_sample.pvalue),
            "wilcoxon": float(signed.statistic) if signed else np.nan,
            "wilcoxon_p": float(signed.pvalue) if signed else 1.0,
        }
    for test in ("ks_p", "wilcoxon_p") if pairs else ():
        corrected = multipletests([pair[test] for pair in pairs.values()], method="holm")[1]
        for pair, p_value in zip(pairs.values(), corrected, strict=True):
            pair[test] = float(p_value)
    return {"prompts": next(iter(lengths.values())), "models": models, "pairs": pairs}
