"""The examples' images: for each prompt every model's, with predicted and true quality, cost, and the choice."""

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from promptroute.report import style
from promptroute.report.examples import GROUPS, Example
from promptroute.report.format import number, percent
from promptroute.report.images import Drawn, Shown
from promptroute.report.result import Result

EACH = 2  # examples of a group that the picture shows; the page shows all
_WIDTH = 13.0  # inches
_GAP = 0.16  # between models
_TEXT = 0.55  # above a row: the prompt
_UNDER = 0.42  # below the images: quality and cost


def draw(
    result: Result, examples: Sequence[Example], drawn: Drawn, about: Mapping[str, str]
) -> tuple[str, str, Figure]:
    """Return headline, description and figure."""
    shown = [
        one
        for group in GROUPS
        for one in [one for one in examples if one.group == group][:EACH]
        if (one.prompt_id, result.names[0]) in drawn
    ]
    title = "What each model draws of a prompt, and which one the router takes"
    if not shown:
        figure, axes = style.canvas(9.2, 1.8, title, f"{result.subtitle}")
        axes.text(0, 0.5, "No images: this study reads published scores.", va="center")
        axes.set_axis_off()
        return title, f"{title}: no images, as this study reads published scores.", figure
    images = max(len(ones) for ones in drawn.values())
    cell = (_WIDTH - 0.2 - _GAP * (len(result.names) - 1)) / len(result.names)
    side = cell / images
    row = _TEXT + side + _UNDER
    figure, canvas = style.canvas(
        _WIDTH,
        row * len(shown) + 0.35,
        title,
        f"{result.subtitle}. Below each model: predicted → true quality, and its price; framed: the router's choice",
    )
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    canvas.set_position((0, 0, 1, (row * len(shown) + 0.35) / height))
    canvas.set(xlim=(0, width), ylim=(row * len(shown) + 0.35, 0))
    canvas.set_axis_off()
    for column, label in enumerate(result.labels):
        canvas.text(0.1 + column * (cell + _GAP), 0.05, label, weight="bold", size=11, va="top")
    for line, one in enumerate(shown):
        top = 0.35 + line * row
        _words(canvas, one, top)
        for column, model in enumerate(result.names):
            left = 0.1 + column * (cell + _GAP)
            for place, image in enumerate(drawn[one.prompt_id, model]):
                _image(canvas, image, left + place * side, top + _TEXT - 0.1, side)
            chosen, best = column == one.chosen, column == one.best
            price = 1000 * float(result.cost[column])
            words = f"{number(one.predicted[column], 2)} → {number(one.true[column], 2)}   ${number(price, 4)} / 1,000"
            canvas.text(
                left, top + _TEXT + side - 0.05, words + ("   best" if best else ""),
                size=9, va="top", weight="bold" if chosen else "normal",
            )  # fmt: skip
            if chosen:
                frame = Rectangle(
                    (left - 0.04, top + _TEXT - 0.14), cell + 0.06, side + 0.06,
                    fill=False, edgecolor=style.INK, linewidth=2.4,
                )  # fmt: skip
                canvas.add_patch(frame)
    alt = " ".join(
        f"“{one.prompt}”: the router takes {result.labels[one.chosen]}, best is {result.labels[one.best]}."
        for one in shown
    )
    return title, f"{title}. {alt}", figure


def _words(canvas, one: Example, top: float) -> None:  # type: ignore[no-untyped-def]
    """The prompt, and why it is shown."""
    from promptroute.report.page import visible

    text = textwrap.shorten(" ".join(visible(one.prompt).split()), 115, placeholder=" …")
    canvas.text(0.1, top + 0.02, text, size=11, va="top", style="italic")
    note = f"{GROUPS[one.group][0].lower()} · {visible(one.set)} · cost {percent(one.saving, 0, signed=True)}"
    canvas.text(_WIDTH - 0.1, top + 0.02, note, size=9, va="top", ha="right", color=style.QUIET)


def _image(canvas, image: Shown, left: float, top: float, side: float) -> None:  # type: ignore[no-untyped-def]
    from PIL import Image

    pad = 0.02
    if image.data is None:
        canvas.text(
            left + side / 2, top + side / 2, "failed", ha="center", va="center", size=8, color=style.QUIET
        )
        return
    with Image.open(io.BytesIO(image.data)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    small = max(pixels.shape) * 2 <= side * style.DPI * 2.2
    canvas.imshow(
        pixels,
        extent=(left + pad, left + side - pad, top + side - pad, top + pad),
        interpolation="nearest" if small else "antialiased",
        aspect="auto",
        zorder=2,
    )
