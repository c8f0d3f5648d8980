"""All pictures of a result, as bytes."""

from dataclasses import dataclass

from stages.pictures import choices, confusion, frontier, predicted, style
from stages.pictures.result import Result

_DRAW = {
    "frontier": frontier.draw,
    "choices": choices.draw,
    "predicted": predicted.draw,
    "confusion": confusion.draw,
}


@dataclass(frozen=True)
class Painted:
    """A picture: its headline, what it shows in words (for those who can't see it), and its PNG."""

    title: str
    alt: str
    png: bytes


def paint(result: Result) -> dict[str, Painted]:
    """Draw every picture of a result: file name (without ending) → picture."""
    painted = {}
    with style.style():
        for name, draw in _DRAW.items():
            title, alt, figure = draw(result)
            painted[name] = Painted(title, alt, style.png(figure))
    return painted
