"""An image with what the network says of it: maps over the image, scores, and the prompt with missed words struck out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from promptroute.core.image import to_rgb
from promptroute.feedback.predictor import Feedback

if TYPE_CHECKING:
    from PIL.Image import Image

_TITLES = {"implausibility": "implausible here", "misalignment": "not as the prompt says"}
_COLOUR = {"implausibility": (230, 25, 25), "misalignment": (40, 70, 255)}
_SIDE, _GAP, _LINE = 384, 12, 26
"""Pixels: the longer side of an image, the space between, and a line of text."""
_STRUCK = (190, 20, 20)


def overlay(image: "Image", feedback: Feedback, threshold: float) -> "Image":
    """Show an image beside itself under each map, with scores and the prompt below.

    Args:
        image: any size and mode.
        feedback: what was predicted of it.
        threshold: probability from which a word is struck out.

    Returns:
        An RGB image. A map's colour is the stronger the higher it is; full at 1.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = to_rgb(image)
    scale = _SIDE / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    shown = shown.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    panels = [("image", shown)]
    panels += [
        (_TITLES.get(name, name), _tinted(shown, values, _COLOUR.get(name, (230, 25, 25))))
        for name, values in feedback.heatmaps.items()
    ]
    width = len(panels) * (size[0] + _GAP) + _GAP
    font = ImageFont.load_default(18)
    lines = _lines(feedback, threshold, width - 2 * _GAP, font.getlength)
    height = _LINE + size[1] + (len(lines) + 2) * _LINE + _GAP
    page = Image.new("RGB", (width, height), "white")
    canvas = ImageDraw.Draw(page)
    for at, (title, panel) in enumerate(panels):
        left = _GAP + at * (size[0] + _GAP)
        canvas.text((left, 2), title, "black", font)
        page.paste(panel, (left, _LINE))
    y = _LINE + size[1] + 6
    scores = "   ".join(f"{name} {value:.2f}" for name, value in feedback.scores.items())
    canvas.text((_GAP, y), scores, "black", font)
    for line in lines:
        y += _LINE
        for x, word, struck in line:
            canvas.text((_GAP + x, y), word, _STRUCK if struck else "black", font)
            if struck:
                canvas.line((_GAP + x, y + 12, _GAP + x + font.getlength(word), y + 12), _STRUCK, 2)
    return page


def _tinted(image: "Image", values: np.ndarray, colour: tuple[int, int, int]) -> "Image":
    """Lay a map over a greyed image."""
    from PIL import Image

    mask = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    mask = mask.resize(image.size, Image.Resampling.BILINEAR)
    grey = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, "white"), 0.35)
    return Image.composite(Image.new("RGB", image.size, colour), grey, mask)


def _lines(
    feedback: Feedback, threshold: float, width: float, length: Callable[[str], float]
) -> list[list[tuple[float, str, bool]]]:
    """Break the prompt into lines of (x, word, struck out)."""
    lines: list[list[tuple[float, str, bool]]] = [[]]
    x = 0.0
    for word, probability in zip(feedback.words, feedback.probabilities, strict=True):
        wide = length(word)
        if lines[-1] and x + wide > width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, word, bool(probability >= threshold)))
        x += wide + length(" ")
    return lines
