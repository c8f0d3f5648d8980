"""All pictures of a result, as bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from promptroute.report import choices, confusion, frontier, gallery, predicted, scores, style
from promptroute.report.examples import Example
from promptroute.report.images import Drawn
from promptroute.report.result import Result


@dataclass(frozen=True)
class Painted:
    """A picture: its headline, what it shows in words (for those who can't see it), and its PNG."""

    title: str
    alt: str
    png: bytes


def paint(
    result: Result,
    performance: pd.DataFrame,
    examples: Sequence[Example],
    drawn: Drawn,
    about: Mapping[str, str],
) -> dict[str, Painted]:
    """Draw every picture of a result: file name (without ending) → picture.

    Args:
        result: what was measured.
        performance: `Performance` rows of every prompt.
        examples: whose images are shown.
        drawn: these images; empty where none were drawn.
        about: score name → how people write it.
    """
    pictures: dict[str, Callable[[], tuple[str, str, Figure]]] = {
        "frontier": lambda: frontier.draw(result),
        "choices": lambda: choices.draw(result),
        "gallery": lambda: gallery.draw(result, examples, drawn, about),
        "scores": lambda: scores.draw(result, performance, about),
        "predicted": lambda: predicted.draw(result),
        "confusion": lambda: confusion.draw(result),
    }
    painted = {}
    with style.style():
        for name, draw in pictures.items():
            title, alt, figure = draw()
            painted[name] = Painted(title, alt, style.png(figure))
    return painted
