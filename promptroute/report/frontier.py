"""Show the cost-quality plane: the router at its operating point, the frontier, and every row of the cost table."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from promptroute.core.plain import Plain
from promptroute.report import ranking, style
from promptroute.report.format import beside, cost_comparison, interval, percent, quality_at_cost
from promptroute.report.labels import place_labels
from promptroute.report.result import Interval, Result

_SAME = 3.0  # pixels: rows this close share a marker and a label
_MANY = 10  # more models than this are numbered, and named in a key below
_WIDEST = 1.3  # times the most expensive model's price: where the line of a search ends
_LINE = 64  # characters that a label of several rows has in a line
_SHAPES = {"oracle": ("D", style.INK), "random": ("X", "#7a7a7a")}
_POINT: Plain = {"markeredgecolor": "white", "markeredgewidth": 1.0, "linestyle": "none", "zorder": 6}


def headline(result: Result) -> str:
    """Return the finding in a sentence: the router at the operating point that was set beforehand."""
    change, gain = result.values.router.cost_change.estimate, result.values.router.quality_gain.estimate
    assert change is not None and gain is not None
    best = result.labels[result.best_single]
    if (searched := result.values.searched) is None:
        return f"The router costs {cost_comparison(change)} {best}, the best single model; its quality is {beside(gain)}"
    fresh = searched.fresh.quality_gain.estimate if searched.fresh else None
    left = "not known" if fresh is None else beside(fresh)
    return (
        f"The search costs {cost_comparison(change)} {best}, the best single model; its quality is {beside(gain)} by the "
        f"score it looks at, on fresh images {left}"
    )


def chart(result: Result) -> style.Chart:
    """Plot mean quality against mean cost; where every row costs the same, quality alone."""
    costs = [row.cost for row in result.values.strategies.values()]
    if np.ptp(costs) < 1e-9 * max(costs):  # not so with a search, which pays for several images
        return ranking.chart(result)
    router = result.values.router
    figure, axes = style.canvas(
        9.2,
        5.6,
        headline(result),
        f"{result.subtitle}. Operating point set beforehand on other prompts; with 95\u00a0% intervals: cost "
        f"{interval(router.cost_change, 1, share=True, signed=True)}, quality "
        f"{interval(router.quality_gain, 3, signed=True)}{_left(result)}. "
        f"{'' if result.values.searched else router.certainty}".rstrip(),
    )
    style.plain(axes)
    for x, y, line in _curves(result):
        axes.plot(1000 * x, y, solid_capstyle="round", zorder=2, **line)
    points = _mark(axes, result)
    level = result.values.strategies[f"single_{result.values.best_single}"].quality
    axes.axhline(level, color=style.QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.margins(0.09, 0.1)
    axes.set_xlabel("Mean cost, dollars per 1,000 images  (← lower is better)")
    axes.set_ylabel(f"Mean quality, {result.quality}  (higher is better →)")
    legend = axes.legend(loc="lower right", fontsize=9.5)
    if len(result.names) > _MANY:
        markers = [
            Line2D([], [], marker="o", color=style.colour(k), markersize=10, **_POINT)
            for k in range(len(result.names))
        ]
        style.key(figure, markers, [f"{k + 1}  {label}" for k, label in enumerate(result.labels)], 9.0)
    style.settle(figure)
    shown = (legend, _saving(axes, result, level))
    boxes = [artist.get_window_extent(style.renderer(figure)) for artist in shown]
    _label(axes, result, points, boxes, level)
    return style.Chart(headline(result), _alt(result), figure)


def _left(result: Result) -> str:
    """Say what is left of a search's quality on fresh images; nothing of another router."""
    searched = result.values.searched
    if searched is None:
        return ""
    left = "not known" if searched.fresh is None else interval(searched.fresh.quality_gain, 3, signed=True)
    return f", on fresh images {left}"


def _curves(result: Result) -> list[tuple[pd.Series, pd.Series, Plain]]:
    """Return the lines: x in dollars, y in quality, and how each is plotted."""
    hull, before, search = result.hull, result.frontier, result.search_frontier
    name, of = "frontier over all operating points", "its hull"
    if search is not None:
        name, of = "choosing before an image is made", "hull of choosing before"
    curves: list[tuple[pd.Series, pd.Series, Plain]] = [
        (hull["cost"], hull["quality"], {"color": "#b9d7ea", "linewidth": 6, "label": f"{of}: mixes of two operating points"}),
        (before["cost"], before["quality"], {"color": style.INK, "linewidth": 1.6, "label": name}),
    ]  # fmt: skip
    if search is not None:
        # Every model's image for every prompt would dwarf what anybody would pay for.
        search = search[
            search["cost"] <= _WIDEST * max(float(result.cost.max()), result.values.strategies["router"].cost)
        ]
        line: Plain = {"color": "#D55E00", "linewidth": 1.8}
        own = {**line, "label": "search over λ, by the score it looks at"}
        curves.append((search["cost"], search["quality"], own))
        if search["fresh"].notna().all():
            left = {**line, "linestyle": (0, (5, 2)), "label": "the same on fresh images"}
            curves.append((search["cost"], search["fresh"], left))
    return curves


def _alt(result: Result) -> str:
    first, last = (
        quality_at_cost(result.frontier["quality"].iloc[k], result.frontier["cost"].iloc[k]) for k in (0, -1)
    )
    saving = interval(
        result.values.frontier.iso_quality_cost, 1, share=True, signed=True, missing="not reached"
    )
    return (
        f"Mean quality against mean cost per 1,000 images. {result.listed()}. The frontier, read off the test prompts, runs "
        f"from {first} to {last}; its cost at the best single model's quality: {saving}."
    )


def _mark(axes: Axes, result: Result) -> dict[str, tuple[float, float]]:
    """Mark every row of the cost table; return where, in data units."""
    points = {name: (1000 * row.cost, row.quality) for name, row in result.values.strategies.items()}
    models = {f"single_{name}": k for k, name in enumerate(result.names)}
    for name, (x, y) in points.items():
        if name in models:
            k = models[name]
            paint, many = style.colour(k), len(models) > _MANY
            shape, size = ("o", 15) if many else (style.marker(k), 11)
            axes.plot(x, y, marker=shape, color=paint, markersize=size, **_POINT)
            if many:
                axes.annotate(
                    str(k + 1), (x, y), (0, -0.5), textcoords="offset points", ha="center", va="center",
                    size=7.5, weight="bold", color=style.ink_on(paint), zorder=7,
                )  # fmt: skip
        elif name in _SHAPES:
            shape, ink = _SHAPES[name]
            axes.plot(x, y, marker=shape, color=ink, markersize=9.5, **_POINT)
        elif name != "router":
            axes.plot(x, y, marker="o", markersize=7, linestyle="none", zorder=6,
                      markerfacecolor="white", markeredgecolor=style.INK, markeredgewidth=1.4)  # fmt: skip
    x, y = points["router"]
    across, up = _arms(result.values.router.cost, x, 1000), _arms(result.values.router.quality, y, 1)
    axes.errorbar(x, y, up, across, linestyle="none", color="#8a8a8a", linewidth=1.2, capsize=3.5, zorder=5)
    axes.plot(x, y, marker="*", color=style.INK, markersize=17, **(_POINT | {"zorder": 8}))
    return points


def _arms(ends: Interval, middle: float, scale: float) -> list[list[float]] | None:
    """Return the lengths of an error bar's arms."""
    if ends.low is None or ends.high is None:
        return None
    # Percentiles of resamples: the estimate may lie outside by a hair.
    return [[max(middle - scale * ends.low, 0.0)], [max(scale * ends.high - middle, 0.0)]]


def _saving(axes: Axes, result: Result, level: float) -> Text:
    """Show the frontier's cost at the best single model's quality, as an arrow; return its label."""
    search = result.values.search
    saving = (search or result.values.frontier).iso_quality_cost.estimate
    model = result.labels[result.best_single]
    start = 1000 * float(result.cost[result.best_single])
    end = start * (1 + (saving or 0.0))
    note = f"quality of {model}: not reached by the frontier"
    if saving is not None:
        axes.annotate(
            "", (end, level), (start, level), zorder=4,
            arrowprops={"arrowstyle": "-|>", "color": style.QUIET, "linewidth": 1.4, "shrinkA": 6, "shrinkB": 0},
        )  # fmt: skip
        left = ""
        if search is not None:
            fresh = search.fresh and percent(
                search.fresh.iso_quality_cost.estimate, 1, signed=True, missing="not reached"
            )
            left = f" (on fresh images {fresh or 'not known'})"
        note = f"read off these test prompts: {percent(saving, 1, signed=True)} cost at the quality of {model}{left}"
    text = axes.annotate(
        note, ((start + end) / 2, level), (0, -7), textcoords="offset points", ha="center", va="top",
        color=style.QUIET, size=9.5, zorder=9, path_effects=style.halo(),
    )  # fmt: skip
    # Pushed back into the axes where it stands out sideways.
    figure = style.root(axes)
    box = text.get_window_extent(style.renderer(figure))
    shift = min(0.0, axes.bbox.x1 - box.x1 - 2) + max(0.0, axes.bbox.x0 - box.x0 + 2)
    text.xyann = (shift * 72 / figure.dpi, -7)
    return text


def _label(
    axes: Axes, result: Result, points: dict[str, tuple[float, float]], boxes: list[Bbox], level: float
) -> None:
    """Write a label beside each marker, off the other markers, `boxes` and lines as far as that goes."""
    groups = _groups(axes, points)
    if len(result.names) > _MANY:  # these have their numbers
        groups = [left for group in groups if (left := [n for n in group if not n.startswith("single_")])]
    low, high = axes.get_xlim()
    lines = [np.stack([np.linspace(low, high, 120), np.full(120, level)], axis=1)]
    for cost, quality, _ in _curves(result):
        x, y = 1000 * cost.to_numpy(), quality.to_numpy()
        rank = np.linspace(0, len(x) - 1, 400)
        lines.append(np.stack([np.interp(rank, np.arange(len(x)), part) for part in (x, y)], axis=1))
    for ends, scale, axis in ((result.values.router.cost, 1000, 0), (result.values.router.quality, 1, 1)):
        if ends.low is not None and ends.high is not None:
            bar = np.tile([points["router"]], (30, 1))
            bar[:, axis] = scale * np.linspace(ends.low, ends.high, 30)
            lines.append(bar)
    place_labels(
        axes,
        np.array([points[group[0]] for group in groups]),
        [_joined([result.title(name) for name in group]) for group in groups],
        markers=np.array(list(points.values())),
        lines=np.concatenate(lines),
        boxes=boxes,
        weights=["bold" if "router" in group else "normal" for group in groups],
    )


def _joined(titles: list[str]) -> str:
    """Write the titles of a place in lines that are not too long."""
    lines = [titles[0]]
    for title in titles[1:]:
        if len(lines[-1]) + len(title) > _LINE:
            lines.append(f"= {title}")
        else:
            lines[-1] += f" = {title}"
    return "\n".join(lines)


def _groups(axes: Axes, points: dict[str, tuple[float, float]]) -> list[list[str]]:
    """Group the rows that stand at the same place; the router, then single models, name a place first."""
    order = sorted(points, key=lambda name: (name != "router", not name.startswith("single_")))
    groups: list[list[str]] = []
    where = {name: axes.transData.transform(points[name]) for name in order}
    for name in order:
        near = [group for group in groups if np.hypot(*(where[group[0]] - where[name])) < _SAME]
        if near:
            near[0].append(name)
        else:
            groups.append([name])
    return groups
