"""Show which models the oracle, the router and the best prediction choose, over all prompts and by prompt set."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from promptroute.report import style
from promptroute.report.format import percent
from promptroute.report.result import Measured, Result

_SHOWN = ("oracle", "router", "best_predicted")
_MOST = 8  # areas of a bar: with more models, those that get most prompts, and the others together
_SETS = 10  # bars below the first; with more prompt sets, those of most prompts
_SMALL = 0.055  # a fraction below this is too narrow for its number
_OTHERS = "#c9ccd0"


def chart(result: Result) -> style.Chart:
    """Plot the share of prompts that each model gets."""
    rows = [name for name in _SHOWN if name in result.values.strategies]
    router, oracle = (_shares(result.values, result, name) for name in ("router", "oracle"))
    most = int(np.argmax(router))
    label = result.labels[most]
    title = f"The router sends {percent(router[most], 0)} of prompts to {label}, the oracle {percent(oracle[most], 0)}"
    if result.strips is not None:
        title = (
            f"The search delivers an image of {label} for {percent(router[most], 0)} of prompts, the oracle for "
            f"{percent(oracle[most], 0)}"
        )
    sets = result.values.sets if len(result.values.sets) > 1 else {}
    largest = sorted(sets, key=lambda name: -sets[name].prompts)[:_SETS]
    few = f"; the {_SETS} largest of {len(sets)} prompt sets" if len(sets) > _SETS else ""
    parts: dict[str, Measured] = {f"All {result.values.prompts:,} prompts": result.values}
    parts |= {
        f"{name} · {values.prompts:,} prompts": values for name, values in sets.items() if name in largest
    }
    figure, axes = style.canvas(
        9.2,
        0.75 + (0.42 + 0.3 * len(rows)) * len(parts),
        title,
        f"{result.subtitle}. Share of prompts that each model gets, in percent{few}",
    )
    shown = _most_chosen(result, rows)
    y, ticks, names = 0.0, [], []
    for heading, values in parts.items():
        axes.text(0, y - 0.62, heading, weight="bold", size=10.5, va="center")
        for name in rows:
            _bar(axes, y, _shares(values, result, name), shown)
            ticks.append(y)
            names.append(result.title(name))
            y += 0.9
        y += 1.0
    bold = range(rows.index("router"), len(ticks), len(rows))
    style.name_rows(axes, ticks, names, bold)
    axes.set(xlim=(0, 1), ylim=(y - 1.4, -1.0), xlabel="Share of prompts")
    axes.set_xticks(np.linspace(0, 1, 5), [percent(v, 0) for v in np.linspace(0, 1, 5)])
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    patches = [Patch(facecolor=style.colour(k), hatch=style.hatch(k), edgecolor="white") for k in shown]
    labels = [result.labels[k] for k in shown]
    if rest := len(result.names) - len(shown):
        patches.append(Patch(facecolor=_OTHERS, edgecolor="white"))
        labels.append(f"{rest} other models")
    style.key(figure, patches, labels)
    return style.Chart(title, _alt(result, parts, rows), figure)


def _alt(result: Result, parts: Mapping[str, Measured], rows: list[str]) -> str:
    texts = [
        f"{heading}, {result.title(name)}: "
        + ", ".join(
            f"{label} {percent(share, 0)}"
            for label, share in zip(result.labels, _shares(values, result, name).tolist(), strict=True)
            if share > 0
        )
        for heading, values in parts.items()
        for name in rows
    ]
    return f"Share of prompts that each model gets. {'. '.join(texts)}."


def _shares(values: Measured, result: Result, row: str) -> np.ndarray:
    share = values.strategies[row].share
    return np.array([share[name] for name in result.names], dtype=np.float64)


def _most_chosen(result: Result, rows: list[str]) -> list[int]:
    """Return the columns of the models with areas of their own, in order."""
    if len(result.names) <= _MOST:
        return list(range(len(result.names)))
    most = np.max([_shares(result.values, result, name) for name in rows], axis=0)
    return sorted(np.argsort(-most, kind="stable")[: _MOST - 1].tolist())


def _bar(axes: Axes, y: float, share: np.ndarray, shown: list[int]) -> None:
    """Stack the shares of a row, those of `shown`, then all others."""
    areas = [(share[k], style.colour(k), style.hatch(k)) for k in shown]
    areas.append((share.sum() - share[shown].sum(), _OTHERS, ""))
    left = 0.0
    for value, paint, hatch in areas:
        if value <= 1e-9:
            continue
        axes.barh(y, value, 0.78, left, color=paint, hatch=hatch, edgecolor="white", linewidth=0.8)
        if value >= _SMALL:
            text = axes.text(
                left + value / 2, y, f"{100 * value:.0f}", ha="center", va="center", size=9.5,
                color=style.ink_on(paint),
            )  # fmt: skip
            if hatch:
                text.set_bbox({"facecolor": paint, "edgecolor": "none", "pad": 1.2})
        left += value
