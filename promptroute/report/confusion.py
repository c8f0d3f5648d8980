"""Show each prompt's best model against the model that the router chose."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from promptroute.report import style
from promptroute.report.format import percent
from promptroute.report.result import Result

_MANY = 8  # more models than this are numbered along the lower edge, and only counts above zero are written
_SHADES = LinearSegmentedColormap.from_list("share", ["#f4f8fb", "#9fc6e0", "#0072B2", "#00304d"])


def chart(result: Result) -> style.Chart:
    """Plot the confusion matrix: rows are the prompts' best models, columns the router's choices."""
    m = len(result.names)
    counts = np.bincount(result.best * m + result.chosen, minlength=m * m).reshape(m, m)
    whole = counts.sum(axis=1)
    single = result.values.strategies["oracle"].share[result.values.best_single]
    title = (
        f"The router picks the best model for {percent(counts.trace() / counts.sum(), 0)} of prompts; always "
        f"{result.labels[result.best_single]}, the best single model, would for {percent(single, 0)}"
    )
    many = m > _MANY
    width, height = (0.42, 0.3) if many else (1.25, 0.82) if m <= 6 else (0.95, 0.62)
    labels = [f"{k + 1}  {label}" for k, label in enumerate(result.labels)] if many else list(result.labels)
    figure, axes = style.canvas(
        max(m * width + 4.2 if many else m * width + 2.6, 8.2),
        m * height + 1.3,
        title,
        f"{result.subtitle}. Cells: number of prompts{'' if many else ' and share of the row'}; shade: share of the row",
    )
    _cells(axes, counts, many)
    below = [str(k + 1) for k in range(m)] if many else [textwrap.fill(label, 14) for label in labels]
    axes.set_xticks(range(m), below, size=9 if many else None)
    join = " · " if many else "\n"
    axes.set_yticks(
        range(m), [f"{label}{join}{n:,} prompt{'s' * (n != 1)}" for label, n in zip(labels, whole.tolist(), strict=True)],
        size=9 if many else None,
    )  # fmt: skip
    axes.set_xlabel("Chosen by the router")
    axes.set_ylabel("Best model of the prompt")
    alt = "Best model of the prompt against the model chosen by the router. " + " ".join(
        f"{label} is best for {whole[k]:,} prompts, of which the router chose "
        + (", ".join(f"{result.labels[j]} {counts[k, j]:,}" for j in np.flatnonzero(counts[k])) or "none")
        + "."
        for k, label in enumerate(result.labels)
    )
    return style.Chart(title, alt, figure)


def _cells(axes: Axes, counts: np.ndarray, many: bool) -> None:
    """Shade and write the counts [m, m]."""
    m = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(m, m):
        if many and not counts[row, column]:
            continue
        text = f"{counts[row, column]:,}" + ("" if many else f"\n{percent(share[row, column], 0)}")
        axes.text(
            column, row, text, ha="center", va="center", size=8 if many else 10.5, linespacing=1.3,
            weight="bold" if row == column else "normal", color=style.ink_on(_SHADES(share[row, column])[:3]),
        )  # fmt: skip
    axes.set_xticks(np.arange(m + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(m + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1 if many else 2)
    axes.tick_params(which="both", length=0, labelcolor=style.INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
