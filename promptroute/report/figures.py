"""Render every figure of a result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from promptroute.report.examples import Example
from promptroute.report.images import Images
from promptroute.report.result import Result

if TYPE_CHECKING:
    from promptroute.report.style import Chart


@dataclass(frozen=True)
class Figure:
    """A rendered figure: its headline, what it shows in words (for those who can't see it), and its PNG."""

    title: str
    alt: str
    png: bytes


def render(
    result: Result, performance: pd.DataFrame, examples: Sequence[Example], images: Images
) -> dict[str, Figure]:
    """Render the figures of a result: file name (without ending) → figure.

    Args:
        result: what was measured.
        performance: `Performance` rows of every prompt.
        examples: whose images are shown.
        images: of the examples; empty where none were generated.
    """
    from promptroute.report import (
        choices,
        confusion,
        frontier,
        gallery,
        predicted,
        scores,
        style,
    )  # matplotlib

    charts: dict[str, Callable[[], Chart]] = {
        "frontier": lambda: frontier.chart(result),
        "choices": lambda: choices.chart(result),
        "gallery": lambda: gallery.chart(result, examples, images),
        "scores": lambda: scores.chart(result, performance),
        "predicted": lambda: predicted.chart(result),
        "confusion": lambda: confusion.chart(result),
    }
    figures = {}
    with style.style():
        for name, chart in charts.items():
            title, alt, figure = chart()
            figures[name] = Figure(title, alt, style.png(figure))
    return figures
