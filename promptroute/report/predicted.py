"""Show predicted against observed quality, a panel per model."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from promptroute.report import style
from promptroute.report.format import number
from promptroute.report.result import Result

_COLUMNS = 4


def correlation(predicted: np.ndarray, observed: np.ndarray) -> float | None:
    """Return Pearson's r of two lists [n]; None where either is constant or has fewer than two values."""
    if len(observed) < 2 or np.ptp(predicted) == 0 or np.ptp(observed) == 0:
        return None
    return float(np.corrcoef(predicted, observed)[0, 1])


def chart(result: Result) -> style.Chart:
    """Plot the density of prompts over predicted and observed quality."""
    pairs = []
    for column in range(len(result.names)):
        has = np.isfinite(result.predicted[:, column])
        pairs.append((result.predicted[has, column], result.observed[has, column]))
    found = [correlation(*pair) for pair in pairs]
    title = _headline(found)
    columns = min(len(pairs), _COLUMNS)
    rows = -(-len(pairs) // columns)
    y_limits = _limits(np.concatenate([observed for _, observed in pairs]))
    x_limits = _limits(np.concatenate([predicted for predicted, _ in pairs]))
    # Class probabilities stand in for quality in CEMS: on another scale there is no line to lie on.
    same_scale = x_limits[0] < y_limits[1] and y_limits[0] < x_limits[1]
    if same_scale:
        x_limits = y_limits = (min(x_limits[0], y_limits[0]), max(x_limits[1], y_limits[1]))
    note = "on the line: observed as predicted" if same_scale else "predictions are on a scale of their own"
    size = {1: 4.6, 2: 4.0, 3: 3.0}.get(columns, 2.35)
    figure, grid = style.canvas(
        max(columns * size, 9.2 if columns > 1 else 6.5),
        rows * (size + (0.1 if rows > 1 else 0)) + 0.5,
        title,
        f"{result.subtitle}. Darker: more prompts; r: Pearson's correlation; {note}",
        nrows=rows,
        ncols=columns,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for panel in grid.flat[len(pairs) :]:
        panel.set_visible(False)
    for model, (panel, pair) in enumerate(zip(grid.flat, pairs, strict=False)):
        _density(panel, *pair, style.colour(model), (x_limits, y_limits))
        if same_scale:
            panel.plot(x_limits, x_limits, color=style.INK, linewidth=1, linestyle=(0, (4, 3)))
        label = textwrap.fill(result.labels[model], round(10 * size), max_lines=2)
        panel.set_title(label, size=10 if columns > 2 else 11, weight="bold", loc="left")
        panel.text(
            0.04, 0.96, f"r = {number(found[model], 2)}", transform=panel.transAxes, va="top", size=10,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )  # fmt: skip
        if model + columns >= len(pairs):
            panel.tick_params(labelbottom=True)
    figure.supxlabel("Predicted quality", size=11)
    for panel in grid[:, 0]:
        panel.set_ylabel("Observed quality")
    alt = (
        "Predicted against observed quality, one panel per model. Correlation: "
        + ", ".join(f"{label} {number(r, 2)}" for label, r in zip(result.labels, found, strict=True))
        + "."
    )
    return style.Chart(title, alt, figure)


def _density(
    panel: Axes,
    predicted: np.ndarray,
    observed: np.ndarray,
    paint: str,
    limits: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    """Shade the hexagons that hold prompts, within the limits of x and y."""
    style.plain(panel)
    shades = LinearSegmentedColormap.from_list(
        "model", [(0, _mix(paint, 0.72)), (0.5, _mix(paint, 0.0)), (1, _mix(paint, -0.55))]
    )
    if len(observed):
        panel.hexbin(
            predicted, observed, gridsize=24, extent=(*limits[0], *limits[1]), mincnt=1, cmap=shades,
            bins="log" if len(observed) > 50 else None, linewidths=0.1,
        )  # fmt: skip
    panel.set(xlim=limits[0], ylim=limits[1])
    panel.set_box_aspect(1)


def _headline(found: list[float | None]) -> str:
    known = [r for r in found if r is not None]
    if not known:
        return "The predicted quality is the same for every prompt"
    low, high = number(min(known), 2), number(max(known), 2)
    if low == high:
        return f"Predicted quality follows observed quality with a correlation of {low}"
    return f"Predicted quality follows observed quality with a correlation of {low} to {high}, by model"


def _limits(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or 0.05 * max(abs(low), 1.0)
    return low - room, high + room


def _mix(colour: str, white: float) -> tuple[float, float, float]:
    """Return a colour made lighter by a share of white, or darker by of black where the share is below 0."""
    from matplotlib.colors import to_rgb

    red, green, blue = ((c + (1 - c) * white) if white >= 0 else c * (1 + white) for c in to_rgb(colour))
    return red, green, blue
