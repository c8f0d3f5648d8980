"""How each model's scores are spread over the prompts: a panel per score, densities with boxes in them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from promptroute.report import style
from promptroute.report.format import number
from promptroute.report.result import Result

_WIDTH = 0.8  # of the widest density, where models stand 1 apart


def draw(result: Result, performance: pd.DataFrame, about: Mapping[str, str]) -> tuple[str, str, Figure]:
    """Return headline, description and figure.

    Args:
        result: for the models' names and order.
        performance: `Performance` rows; a prompt's score is the mean over its images.
        about: score name → how people write it; the panels' order.
    """
    spread = {
        score: [
            performance.loc[
                (performance["score"] == score) & (performance["model"] == model), "mean"
            ].to_numpy(np.float64)
            for model in result.names
        ]
        for score in about
    }
    prompts = performance["prompt_id"].nunique()
    title = "How the models' scores are spread over the prompts"
    figure, grid = style.canvas(
        9.2,
        len(spread) * (0.55 + 0.42 * len(result.names)) + 0.3,
        title,
        f"{prompts:,} prompts, each with the mean over its images; box: quartiles and median, line: 5 to 95 %",
        nrows=len(spread),
        squeeze=False,
    )
    for panel, (score, values) in zip(grid[:, 0], spread.items(), strict=True):
        _panel(panel, values, result.labels)
        panel.set_xlabel(about[score])
    alt = "; ".join(
        f"{about[score]}: "
        + ", ".join(
            f"{label} median {number(float(np.median(one)), 2)}"
            for label, one in zip(result.labels, values, strict=True)
        )
        for score, values in spread.items()
    )
    return title, f"{title}. {alt}.", figure


def _panel(axes: Axes, values: list[np.ndarray], labels: tuple[str, ...]) -> None:
    style.plain(axes, "x")
    for model, one in enumerate(values):
        paint = style.colour(model)
        if len(one) > 2 and np.ptp(one) > 0:
            body = axes.violinplot(one, [model], orientation="horizontal", widths=_WIDTH, showextrema=False)
            for part in body["bodies"]:  # type: ignore[attr-defined]
                part.set(facecolor=paint, alpha=0.35, linewidth=0)
        axes.boxplot(
            one, positions=[model], orientation="horizontal", widths=0.16, whis=(5, 95), showfliers=False,
            patch_artist=True, medianprops={"color": "white", "linewidth": 1.6},
            boxprops={"facecolor": paint, "edgecolor": paint},
            whiskerprops={"color": paint}, capprops={"visible": False},
        )  # fmt: skip
    axes.set_yticks(range(len(values)), list(labels))
    for tick in axes.get_yticklabels():
        tick.set_color(style.INK)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
