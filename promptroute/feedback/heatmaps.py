"""Figures of predicted maps against true ones, each exact per image.

Source: Liang et al. (CVPR 2024), section 5; Bylinski et al., "What do different evaluation metrics tell us about
saliency models?" (arXiv 1604.03605).
"""

import numpy as np

from promptroute.core.errors import UserError

_EPSILON = 1e-8


def _checked(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give both as float64 [n, pixels].

    Raises:
        UserError: shapes differ or aren't [n, h, w], a value is not finite, or a truth is below 0.
    """
    given = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if given[0].shape != given[1].shape or given[0].ndim != 3 or not given[0].size:
        raise UserError(
            f"predicted maps have shape {given[0].shape} and true ones {given[1].shape}; expected both [n, height, width]"
        )
    if not (np.isfinite(given[0]).all() and np.isfinite(given[1]).all() and given[1].min() >= 0):
        raise UserError("a map holds a value that is not finite, or a truth one below 0; expected 0 to 1")
    return given[0].reshape(len(predicted), -1), given[1].reshape(len(predicted), -1)


def heatmap_metrics(predicted: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Compare maps, each with its truth.

    Args:
        predicted: float64 [n, h, w].
        truth: float64 [n, h, w], at least 0; a pixel above 0 is a fixation.

    Returns:
        float64 [n] each: `mse`, lower is better; `kld`, the divergence of the prediction from the truth, lower is better;
        `cc`, Pearson correlation, -1..1; `similarity`, the common part of both as distributions, 0..1; `nss`, mean over
        fixations of the standardised prediction, NaN without fixations. For an empty truth the others say nothing.

    Raises:
        UserError: as `_checked`.
    """
    p, g = _checked(predicted, truth)
    shares = p / (p.sum(axis=1, keepdims=True) + _EPSILON)
    true_shares = g / (g.sum(axis=1, keepdims=True) + _EPSILON)
    centred, true_centred = p - p.mean(axis=1, keepdims=True), g - g.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1)) * np.sqrt((true_centred**2).sum(axis=1))
    deviation = centred.std(axis=1, ddof=1) if p.shape[1] > 1 else np.zeros(len(p))
    fixations = g > 0
    counts = fixations.sum(axis=1)
    standard = (centred * fixations).sum(axis=1) / (deviation + _EPSILON)
    return {
        "mse": ((p - g) ** 2).mean(axis=1),
        "kld": (true_shares * np.log(true_shares / (shares + _EPSILON) + _EPSILON)).sum(axis=1),
        "cc": (centred * true_centred).sum(axis=1) / (lengths + _EPSILON),
        "nss": np.where(counts, standard / np.maximum(counts, 1), np.nan),
        "similarity": np.minimum(shares, true_shares).sum(axis=1),
    }


def auc_judd(predicted: np.ndarray, truth: np.ndarray, original: bool = False) -> np.ndarray:
    """Return the area under the ROC curve of telling fixations from other pixels: by sorting, O(pixels log pixels).

    Args:
        predicted: float64 [n, h, w].
        truth: float64 [n, h, w]; a pixel above 0 is a fixation.
        original: trace the curve as the open version does (without its jitter): the fixation that is being counted is
            among the false positives too, and of ties none counts half, so that a perfect map is a little below 1.

    Returns:
        float64 [n], 0..1, higher is better; 0.5 for a constant map (NaN with `original`); NaN where no pixel, or every
        pixel, is a fixation.

    Raises:
        UserError: as `_checked`.
    """
    p, g = _checked(predicted, truth)
    return np.array([(_traced if original else _area)(one, of > 0) for one, of in zip(p, g, strict=True)])


def _area(values: np.ndarray, fixations: np.ndarray) -> float:
    """Return the share of (fixation, other) pairs in which the fixation has the higher value; ties count half."""
    inside, outside = np.sort(values[fixations]), np.sort(values[~fixations])
    if not len(inside) or not len(outside):
        return float("nan")
    below = np.searchsorted(outside, inside, "left").sum() + np.searchsorted(outside, inside, "right").sum()
    return float(below / (2 * len(inside) * len(outside)))


def _traced(values: np.ndarray, fixations: np.ndarray) -> float:
    """Return the area under the open version's curve (its formula: docs/feedback.md)."""
    low, high, n = values.min(), values.max(), int(fixations.sum())
    if low == high or not 0 < n < len(values):
        return float("nan")
    scaled = (values - low) / (high - low)
    thresholds = np.sort(scaled[fixations])[::-1]
    reached = len(values) - np.searchsorted(np.sort(scaled), thresholds, "left")
    order = np.arange(n)
    false = np.concatenate([[0], (reached - order) / (len(values) - n), [1]])
    true = np.concatenate([[0], (order + 1) / n, [1]])
    return float(np.trapezoid(true, false))
