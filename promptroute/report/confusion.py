"""Each prompt's best model against the model that the router chose."""

import textwrap

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from promptroute.report import style
from promptroute.report.format import percent
from promptroute.report.result import Result


def draw(result: Result) -> tuple[str, str, Figure]:
    """Return headline, description and figure."""
    m = len(result.names)
    counts = np.bincount(result.best * m + result.chosen, minlength=m * m).reshape(m, m)
    whole = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(whole, 1)
    title = (
        f"The router picks the best model for {percent(counts.trace() / counts.sum(), 0)} of prompts; "
        f"{result.labels[result.best_single]}, the best single one, "
        f"is it for {percent(result.strategies['oracle']['share'][result.values['best_single']], 0)}"
    )
    cell = 1.0 if m <= 6 else 0.72
    figure, axes = style.canvas(
        max(m * cell * 1.25 + 2.6, 8.2),
        m * cell * 0.82 + 1.3,
        title,
        f"{result.subtitle}. Number of prompts, and share of the row",
    )
    shades = LinearSegmentedColormap.from_list("share", ["#f4f8fb", "#9fc6e0", "#0072B2", "#00304d"])
    axes.imshow(share, cmap=shades, vmin=0, vmax=1, aspect="auto")
    for row in range(m):
        for column in range(m):
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}\n{percent(share[row, column], 0)}",
                ha="center",
                va="center",
                size=10.5 if m <= 6 else 8,
                weight="bold" if row == column else "normal",
                color=style.ink_on(shades(share[row, column])[:3]),
                linespacing=1.3,
            )
    below = [textwrap.fill(label, 14) if m <= 6 else label for label in result.labels]
    axes.set_xticks(range(m), below, rotation=0 if m <= 6 else 40, ha="center" if m <= 6 else "right")
    axes.set_yticks(
        range(m),
        [f"{label}\n{n:,} prompts" for label, n in zip(result.labels, whole[:, 0].tolist(), strict=True)],
    )
    axes.set_xticks(np.arange(m + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(m + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, labelcolor=style.INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("Chosen by the router")
    axes.set_ylabel("Best model of the prompt")
    alt = "Best model of the prompt against the model chosen by the router. " + " ".join(
        f"{label} is best for {whole[k, 0]:,} prompts, of which the router chose "
        + ", ".join(f"{other} {counts[k, j]:,}" for j, other in enumerate(result.labels))
        + "."
        for k, label in enumerate(result.labels)
    )
    return title, alt, figure
