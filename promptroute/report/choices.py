"""Which models the oracle, the router and CEMS's rule choose, over all prompts and by prompt set."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from promptroute.report import style
from promptroute.report.format import percent, strategy_name
from promptroute.report.result import Result

_SHOWN = ("oracle", "router", "best_predicted")
_SMALL = 0.055  # a share below this is too narrow for its figure


def draw(result: Result) -> tuple[str, str, Figure]:
    """Return headline, description and figure."""
    share = {name: _shares(result.values, result, name) for name in _SHOWN}
    most = int(np.argmax(share["router"]))
    title = (
        f"The router sends {percent(share['router'][most], 0)} of prompts to {result.labels[most]}, "
        f"the oracle {percent(share['oracle'][most], 0)}"
    )
    sets = result.values["sets"] if len(result.values["sets"]) > 1 else {}
    parts = {f"All {result.values['prompts']:,} prompts": result.values}
    parts |= {f"{name} · {values['prompts']:,} prompts": values for name, values in sets.items()}
    columns = min(len(result.names), 6)
    legend_rows = -(-len(result.names) // columns)
    figure, axes = style.canvas(
        9.2,
        0.75 + 1.32 * len(parts) + 0.27 * legend_rows,
        title,
        f"{result.subtitle}. Share of prompts per chosen model",
    )
    y, ticks, names = 0.0, [], []
    for heading, values in parts.items():
        axes.text(0, y - 0.62, heading, weight="bold", size=10.5, va="center")
        for name in _SHOWN:
            _bar(axes, y, _shares(values, result, name))
            ticks.append(y)
            names.append(strategy_name(result, name))
            y += 0.9
        y += 1.0
    axes.set_yticks(ticks, names)
    for tick in axes.get_yticklabels():
        tick.set_color(style.INK)
        tick.set_weight("bold" if tick.get_text() == "router" else "normal")
    axes.set_ylim(y - 1.4, -1.0)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 5), [percent(v, 0) for v in np.linspace(0, 1, 5)])
    axes.set_xlabel("Share of prompts")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    figure.legend(
        handles=[
            Patch(facecolor=style.colour(k), hatch=style.hatch(k), edgecolor="white", label=label)
            for k, label in enumerate(result.labels)
        ],
        loc="outside lower left",
        ncols=columns,
        fontsize=9.5 if columns < 6 else 8.5,
        handlelength=1.2,
        columnspacing=1.4,
    )
    alt = "Share of prompts per chosen model. " + ". ".join(
        f"{heading}, {strategy_name(result, name)}: "
        + ", ".join(
            f"{label} {percent(value, 0)}"
            for label, value in zip(result.labels, _shares(values, result, name), strict=True)
        )
        for heading, values in parts.items()
        for name in _SHOWN
    )
    return title, alt + ".", figure


def _shares(values: dict, result: Result, strategy: str) -> np.ndarray:  # type: ignore[type-arg]
    share = values["strategies"][strategy]["share"]
    return np.array([share[name] for name in result.names], dtype=np.float64)


def _bar(axes, y: float, share: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    left = 0.0
    for model, value in enumerate(share.tolist()):
        if value <= 0:
            continue
        paint = style.colour(model)
        axes.barh(
            y, value, 0.78, left, color=paint, hatch=style.hatch(model), edgecolor="white", linewidth=0.8
        )
        if value >= _SMALL:
            text = axes.text(
                left + value / 2, y, f"{100 * value:.0f}", ha="center", va="center", size=9.5,
                color=style.ink_on(paint),
            )  # fmt: skip
            if style.hatch(model):
                text.set_bbox({"facecolor": paint, "edgecolor": "none", "pad": 1.2})
        left += value
