"""Show how each model's scores are spread over the prompts: a panel per score, densities with boxes in them."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from promptroute.core.errors import UserError
from promptroute.report import style
from promptroute.report.format import number
from promptroute.report.result import Result

_WIDTH = 0.8  # of the widest density, where models stand 1 apart


def chart(result: Result, performance: pd.DataFrame) -> style.Chart:
    """Plot the scores' densities.

    Args:
        result: for the models, and the scores' labels in the order of the panels.
        performance: `Performance` rows of every prompt; a prompt's score is the mean over its images.

    Raises:
        UserError: a model has none of one of the scores.
    """
    rows = dict(list(performance.groupby(["score", "model"])["mean"]))
    if lost := [pair for pair in product(result.scores, result.names) if pair not in rows]:
        raise UserError(
            f"data/performance.parquet: no {lost[0][0]} score of model {lost[0][1]}; gather the scores again"
        )
    spread = {
        label: [rows[score, model].to_numpy(np.float64) for model in result.names]
        for score, label in result.scores.items()
    }
    prompts = performance["prompt_id"].nunique()
    title = "How the models' scores are spread over the prompts"
    figure, grid = style.canvas(
        9.2,
        len(spread) * (0.55 + 0.42 * len(result.names)) + 0.3,
        title,
        f"{prompts:,} prompts, learnt from and tested on, each with the mean over its images · {result.data}. "
        "Box: quartiles and median; line: 5 to 95\u00a0%",
        nrows=len(spread),
        squeeze=False,
    )
    for panel, (label, values) in zip(grid[:, 0], spread.items(), strict=True):
        _panel(panel, values, result.labels)
        panel.set_xlabel(label)
    medians = "; ".join(
        f"{label}: "
        + ", ".join(
            f"{model} median {number(float(np.median(part)), 2)}"
            for model, part in zip(result.labels, values, strict=True)
        )
        for label, values in spread.items()
    )
    return style.Chart(title, f"{title}. {medians}.", figure)


def _panel(axes: Axes, values: list[np.ndarray], labels: tuple[str, ...]) -> None:
    """Plot a density and a box for each model's values."""
    style.plain(axes, "x")
    for model, part in enumerate(values):
        paint = style.colour(model)
        if len(part) > 2 and np.ptp(part) > 0:
            body = axes.violinplot(part, [model], orientation="horizontal", widths=_WIDTH, showextrema=False)
            for shape in body["bodies"]:  # type: ignore[attr-defined]
                shape.set(facecolor=paint, alpha=0.35, linewidth=0)
        axes.boxplot(
            part, positions=[model], orientation="horizontal", widths=0.16, whis=(5, 95), showfliers=False,
            patch_artist=True, medianprops={"color": "white", "linewidth": 1.6},
            boxprops={"facecolor": paint, "edgecolor": paint},
            whiskerprops={"color": paint}, capprops={"visible": False},
        )  # fmt: skip
    style.name_rows(axes, range(len(values)), labels)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
