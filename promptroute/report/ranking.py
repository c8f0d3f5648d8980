"""Show mean quality alone: what is left of the cost-quality plane where every model costs the same."""

from promptroute.report import style
from promptroute.report.format import beside, interval, number
from promptroute.report.result import Result

_BEFORE = ("oracle", "router", "best_per_set", "random")
"""Rows shown besides single models; the other strategies are the router's own choice, or a model's."""
_SHAPES = {"oracle": "D", "router": "*", "best_per_set": "P", "random": "X"}


def chart(result: Result) -> style.Chart:
    """Plot the mean quality of each model and of the ways to choose between them, the highest first."""
    rows = {name: row.quality for name, row in result.values.strategies.items() if name in _BEFORE}
    singles = {f"single_{name}": k for k, name in enumerate(result.names)}
    rows |= {name: result.values.strategies[name].quality for name in singles}
    order = sorted(rows, key=lambda name: -rows[name])
    gain = result.values.router.quality_gain
    assert gain.estimate is not None
    size, best = beside(gain.estimate), result.labels[result.best_single]
    than = "as" if size == "the same" else "than"
    title = f"At one price for every model, choosing by prompt gives {size} quality {than} {best}, the best of them"
    figure, axes = style.canvas(
        9.2,
        0.9 + 0.27 * len(order),
        title,
        f"{result.subtitle}. Mean quality; the router's gain with its 95\u00a0% interval: "
        f"{interval(gain, 3, signed=True)}",
    )
    style.plain(axes)
    values = [rows[name] for name in order]
    for y, (name, value) in enumerate(zip(order, values, strict=True)):
        paint = style.colour(singles[name]) if name in singles else style.INK
        shape = style.marker(singles[name]) if name in singles else _SHAPES[name]
        axes.plot(
            value, y, shape, color=paint, markersize=14 if name == "router" else 9, markeredgecolor="white"
        )
        axes.annotate(number(value, 2), (value, y), (11, 0), textcoords="offset points", va="center", size=9)
    titles = [result.title(name) for name in order]
    style.name_rows(axes, range(len(order)), titles, [order.index("router")], size=9.5)
    room = 0.08 * (values[0] - values[-1]) or 1.0
    axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(values[-1] - 0.5 * room, values[0] + room))
    axes.set_xlabel(f"Mean quality, {result.quality}  (higher is better →)")
    alt = f"Mean quality, every model at one price per 1,000 images. {result.listed()}."
    return style.Chart(title, alt, figure)
