"""The cost-quality plane: the router's frontier, its hull, and every strategy on it."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from promptroute.report import style
from promptroute.report.format import interval, less_or_more, number, percent, strategy_name
from promptroute.report.labels import place_labels
from promptroute.report.result import Result

_SAME = 3.0  # pixels: strategies this close share a marker and a label
_OTHERS = {"oracle": ("D", "#1a1a1a"), "random": ("X", "#7a7a7a")}


def headline(result: Result) -> str:
    """The finding in a sentence."""
    model, saving = result.labels[result.best_single], _saving(result)
    if saving is None:
        return f"The router never reaches the quality of {model}, the best single model"
    return f"Routing reaches the quality of {model}, the best single model, for {less_or_more(saving)}"


def draw(result: Result) -> tuple[str, str, Figure]:
    """Return headline, description and figure."""
    title = headline(result)
    at_iso = interval(
        result.values["frontier"]["iso_quality_cost"], 1, share=True, signed=True, missing="not reached"
    )
    figure, axes = style.canvas(
        9.2,
        5.6,
        title,
        f"{result.subtitle}. Cost at equal quality, with 95\u00a0% interval: {at_iso}",
    )
    style.plain(axes)
    for table, line in (
        (result.hull, {"color": "#b9d7ea", "linewidth": 6, "label": "its hull: reached by mixing two knobs"}),
        (result.frontier, {"color": style.INK, "linewidth": 1.6, "label": "router, over its knob λ"}),
    ):
        # One point would be no line.
        axes.plot(1000 * table["cost"], table["quality"], solid_capstyle="round", zorder=2, **line)
    points = _mark(axes, result)
    level = result.strategies[f"single_{result.values['best_single']}"]["quality"]
    axes.axhline(level, color=style.QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.margins(0.09, 0.1)
    axes.set_xlabel("Mean cost, dollars per 1,000 images  (← lower is better)")
    axes.set_ylabel(f"Mean quality, {result.score}  (higher is better →)")
    axes.legend(loc="lower right", fontsize=9.5)
    style.settle(figure)
    boxes = [_arrow(axes, result, level), _level(axes, result, level)]
    legend = axes.get_legend()
    assert legend is not None
    boxes.append(legend.get_window_extent(style.renderer(figure)))
    groups = _groups(axes, result, points)
    place_labels(
        axes,
        np.array([points[group[0]] for group in groups]),
        [" = ".join(strategy_name(result, name) for name in group) for group in groups],
        avoid=_samples(axes, result, level),
        boxes=[box for box in boxes if box is not None],
        weights=["bold" if "router" in group else "normal" for group in groups],
    )
    rows = ", ".join(
        f"{strategy_name(result, name)} {number(row['quality'], 3)} at {number(1000 * row['cost'], 4)} dollars"
        for name, row in result.strategies.items()
    )
    alt = (
        f"Mean quality against mean cost per 1,000 images. {rows}. The frontier runs from "
        f"{number(result.frontier['quality'].iloc[0], 3)} at {number(1000 * result.frontier['cost'].iloc[0], 4)} "
        f"dollars to {number(result.frontier['quality'].iloc[-1], 3)} at "
        f"{number(1000 * result.frontier['cost'].iloc[-1], 4)} dollars."
    )
    return title, alt, figure


def _saving(result: Result) -> float | None:
    saving = result.values["frontier"]["iso_quality_cost"]["estimate"]
    return None if saving is None else float(saving)


def _mark(axes: Axes, result: Result) -> dict[str, tuple[float, float]]:
    """Mark every strategy; returns where, in data units."""
    points = {name: (1000 * row["cost"], row["quality"]) for name, row in result.strategies.items()}
    edge: dict[str, Any] = {
        "markeredgecolor": "white",
        "markeredgewidth": 1.0,
        "linestyle": "none",
        "zorder": 6,
    }
    for name, (x, y) in points.items():
        if name.startswith("single_") and name.removeprefix("single_") in result.names:
            model = result.names.index(name.removeprefix("single_"))
            axes.plot(x, y, marker=style.marker(model), color=style.colour(model), markersize=11, **edge)
        elif name in _OTHERS:
            shape, ink = _OTHERS[name]
            axes.plot(x, y, marker=shape, color=ink, markersize=9.5, **edge)
        elif name != "router":
            axes.plot(x, y, marker="o", markersize=7, linestyle="none", zorder=6,
                      markerfacecolor="white", markeredgecolor=style.INK, markeredgewidth=1.4)  # fmt: skip
    x, y = points["router"]
    for ends, scale, side in (
        (result.values["router"]["cost"], 1000, "xerr"),
        (result.values["router"]["quality"], 1, "yerr"),
    ):
        if ends["low"] is not None and ends["high"] is not None:
            middle = x if side == "xerr" else y
            # Percentiles of resamples: the estimate may lie outside by a hair.
            arms = [[max(middle - scale * ends["low"], 0.0)], [max(scale * ends["high"] - middle, 0.0)]]
            bar: dict[str, Any] = {side: arms}
            axes.errorbar(x, y, **bar, color="#8a8a8a", linewidth=1.2, capsize=3.5, zorder=5)
    axes.plot(x, y, marker="*", color=style.INK, markersize=17, **(edge | {"zorder": 8}))
    return points


def _groups(axes: Axes, result: Result, points: dict[str, tuple[float, float]]) -> list[list[str]]:
    """Strategies that stand at one place, together; the router, then single models, name a place first."""
    order = sorted(points, key=lambda name: (name != "router", not name.startswith("single_")))
    groups: list[list[str]] = []
    where = {name: axes.transData.transform(points[name]) for name in order}
    for name in order:
        near = [g for g in groups if np.hypot(*(where[g[0]] - where[name])) < _SAME]
        if near:
            near[0].append(name)
        else:
            groups.append([name])
    return groups


def _arrow(axes: Axes, result: Result, level: float) -> Bbox | None:
    """The saving at equal quality, as an arrow along the level line; returns the box of its label."""
    saving = _saving(result)
    if saving is None:
        return None
    start = 1000 * float(result.cost[result.best_single])
    end = start * (1 + saving)
    axes.annotate(
        "",
        (end, level),
        (start, level),
        arrowprops={"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "color": "#b3261e", "linewidth": 2.4, "shrinkA": 6, "shrinkB": 0},
        zorder=4,
    )  # fmt: skip
    text = axes.annotate(
        f"{percent(saving, 1, signed=True)} cost at equal quality",
        ((start + end) / 2, level),
        (0, -9),  # below: the router's line runs above
        textcoords="offset points",
        ha="center",
        va="top",
        color="#b3261e",
        weight="bold",
        size=10,
        zorder=9,
    )
    return _inside(axes, text)


def _level(axes: Axes, result: Result, level: float) -> Bbox | None:
    """Name the level line at its left end."""
    text = axes.annotate(
        f"quality of {result.labels[result.best_single]}"
        + (": not reached by the router" if _saving(result) is None else ""),
        (0.008, level),
        (0, 4),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        color=style.QUIET,
        size=9.5,
        zorder=9,
    )
    return _inside(axes, text)


def _inside(axes: Axes, text: Annotation) -> Bbox:
    """Push a label back into the axes where it stands out sideways; returns its box in pixels."""
    figure = style.root(axes)
    box = text.get_window_extent(style.renderer(figure))
    shift = min(0.0, axes.bbox.x1 - box.x1 - 2) + max(0.0, axes.bbox.x0 - box.x0 + 2)
    x, y = text.xyann
    text.xyann = (x + shift * 72 / figure.dpi, y)
    return text.get_window_extent(style.renderer(figure))


def _samples(axes: Axes, result: Result, level: float) -> np.ndarray:
    """Points on the drawn lines that labels should rather not cover, in data units."""
    parts = []
    for table in (result.frontier, result.hull):
        x, y = 1000 * table["cost"].to_numpy(), table["quality"].to_numpy()
        place = np.linspace(0, len(x) - 1, 400)
        rank = np.arange(len(x))
        parts.append(np.stack([np.interp(place, rank, x), np.interp(place, rank, y)], axis=1))
    low, high = axes.get_xlim()
    parts.append(np.stack([np.linspace(low, high, 120), np.full(120, level)], axis=1))
    spread = result.values["router"]
    row = result.strategies["router"]
    if spread["cost"]["low"] is not None and spread["cost"]["high"] is not None:
        x = 1000 * np.linspace(spread["cost"]["low"], spread["cost"]["high"], 30)
        parts.append(np.stack([x, np.full(30, row["quality"])], axis=1))
    if spread["quality"]["low"] is not None and spread["quality"]["high"] is not None:
        y = np.linspace(spread["quality"]["low"], spread["quality"]["high"], 30)
        parts.append(np.stack([np.full(30, 1000 * row["cost"]), y], axis=1))
    return np.concatenate(parts)
