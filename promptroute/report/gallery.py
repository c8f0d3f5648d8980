"""Show the examples' images: model by model, with predicted and observed quality, cost, and the router's choice."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from promptroute.report import style
from promptroute.report.examples import GROUPS, Example
from promptroute.report.format import number, percent, visible
from promptroute.report.images import ExampleImage, Images
from promptroute.report.result import Result

EACH = 2
"""Examples of a group in the figure; the page shows all."""
_MOST = 5  # columns; with more models, a column for each part that a model plays
_PARTS = ("Router's choice", "Best of the prompt", "Best single model", "Cheapest model")
_WIDTH = 13.0  # inches
_GAP = 0.16  # between models
_TEXT = 0.55  # above a row: the prompt
_UNDER = 0.42  # below the images: quality and cost
_HEAD = 0.35  # the columns' headings


def chart(result: Result, examples: Sequence[Example], images: Images) -> style.Chart:
    """Plot a row for each example, a column for each model; with many models, for each part that they play."""
    shown = [
        example
        for group in GROUPS
        for example in [example for example in examples if example.group == group][:EACH]
        if any((example.prompt_id, model) in images for model in result.names)
    ]
    which = "which one the router chooses" if result.strips is None else "whose image the search delivers"
    title = f"What each model generates for a prompt, and {which}"
    if not shown:
        return _no_images(result, title)
    roles = len(result.names) > _MOST
    headings = _PARTS if roles else result.labels
    seeds = max(len(found) for found in images.values())
    cell = (_WIDTH - 0.2 - _GAP * (len(headings) - 1)) / len(headings)
    row = _TEXT + cell / seeds + _UNDER + (0.2 if roles else 0)
    figure, axes = style.canvas(
        _WIDTH,
        row * len(shown) + _HEAD,
        title,
        f"{result.subtitle}. Below each model: predicted → observed quality, and its price; framed: the router's "
        "choice; “best”: best observed",
    )
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    axes.set_position((0, 0, 1, (row * len(shown) + _HEAD) / height))
    axes.set(xlim=(0, width), ylim=(row * len(shown) + _HEAD, 0))
    axes.set_axis_off()
    for column, heading in enumerate(headings):
        text = textwrap.shorten(heading, int(cell * 11), placeholder=" …")
        axes.text(0.1 + column * (cell + _GAP), 0.05, text, weight="bold", size=11, va="top")
    for line, example in enumerate(shown):
        top = _HEAD + line * row
        _prompt(axes, example, top)
        models = _columns(result, example)
        for column, model in enumerate(models):
            left = 0.1 + column * (cell + _GAP)
            if (first := models.index(model)) < column:
                text = f"the same model as on the left:\n{headings[first].lower()}"
                axes.text(
                    left, top + _TEXT - 0.05, text, size=9, va="top", color=style.QUIET, linespacing=1.4
                )
                continue
            found = images.get((example.prompt_id, result.names[model]), ())
            for place, image in enumerate(found):
                _image(axes, image, left + place * cell / seeds, top + _TEXT - 0.1, cell / seeds)
            _caption(axes, result, example, model, (left, top + _TEXT + cell / seeds), roles)
            if model == example.chosen:
                corner, size = (left - 0.04, top + _TEXT - 0.14), (cell + 0.06, cell / seeds + 0.06)
                axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=style.INK, linewidth=2.4))
    alt = " ".join(
        f"“{example.prompt}”: the router chooses {result.labels[example.chosen]}, best is "
        f"{result.labels[example.best]}."
        for example in shown
    )
    return style.Chart(title, f"{title}. {alt}", figure)


def _no_images(result: Result, title: str) -> style.Chart:
    figure, axes = style.canvas(9.2, 1.8, title, result.subtitle)
    axes.text(0, 0.5, "No images: this study reads published scores.", va="center")
    axes.set_axis_off()
    return style.Chart(title, f"{title}: no images, as this study reads published scores.", figure)


def _columns(result: Result, example: Example) -> list[int]:
    """Return the models of an example's columns."""
    if len(result.names) <= _MOST:
        return list(range(len(result.names)))
    return [example.chosen, example.best, result.best_single, int(np.argmin(result.cost))]


def _prompt(axes: Axes, example: Example, top: float) -> None:
    """Write the prompt, and why it is shown."""
    text = textwrap.shorten(" ".join(visible(example.prompt).split()), 110, placeholder=" …")
    axes.text(0.1, top + 0.02, text, size=11, va="top", style="italic")
    note = (
        f"{GROUPS[example.group][0].lower()} · {visible(example.set)} · "
        f"cost {percent(example.saving, 0, signed=True)}"
    )
    axes.text(_WIDTH - 0.1, top + 0.02, note, size=9, va="top", ha="right", color=style.QUIET)


def _caption(
    axes: Axes, result: Result, example: Example, model: int, at: tuple[float, float], named: bool
) -> None:
    """Write a model's quality and price below its images, its name where the column doesn't say it."""
    text = (
        f"{number(example.predicted[model], 2)} → {number(example.observed[model], 2)}   "
        f"${number(1000 * float(result.cost[model]), 4)} / 1,000"
    )
    if model == example.best:
        text += "   best"
    if named:
        text = f"{textwrap.shorten(result.labels[model], 44, placeholder=' …')}\n{text}"
    weight = "bold" if model == example.chosen else "normal"
    axes.text(at[0], at[1] - 0.05, text, size=9, va="top", weight=weight, linespacing=1.4)


def _image(axes: Axes, image: ExampleImage, left: float, top: float, side: float) -> None:
    """Put an image into a square of `side` inches; of a failed image, why it failed."""
    from PIL import Image

    pad = 0.02
    if image.data is None:
        reason = textwrap.shorten(visible(image.reason or ""), 60, placeholder=" …")
        text = textwrap.fill(f"failed: {reason}", max(int(side * 12), 8))
        axes.text(left + side / 2, top + side / 2, text, ha="center", va="center", size=7, color=style.QUIET)
        return
    with Image.open(io.BytesIO(image.data)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    small = max(pixels.shape) * 2 <= side * style.DPI * 2.2
    axes.imshow(
        pixels,
        extent=(left + pad, left + side - pad, top + side - pad, top + pad),
        interpolation="nearest" if small else "antialiased",
        aspect="auto",
        zorder=2,
    )
