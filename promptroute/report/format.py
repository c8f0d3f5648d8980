"""Numbers and texts as people read them, the same in figures and pages."""

import re
import unicodedata
from typing import Protocol

Cells = dict[str, object]
"""What a template writes of a row, an example, a figure: texts, flags, and lists of the same."""
NARROW = "\u00a0"  # a space at which no line breaks
# Characters that turn the direction of what follows: shown by name, or a prompt could read as another prompt.
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Ends(Protocol):
    """An estimate with the ends of its 95 % interval; None where a value is undefined."""

    @property
    def estimate(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def visible(text: str) -> str:
    """Name the characters that a page can't hold or that hide or reorder others, as ‹U+202E›.

    Line ends and tabs stay. The result is not HTML: it still has to be escaped.
    """
    shown = _TURNING.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text)
    return "".join(
        f"‹U+{ord(c):04X}›" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
        for c in shown
    )


def number(value: float | None, digits: int, *, signed: bool = False, missing: str = "–") -> str:
    """Format a number with a real minus sign; zero has no sign; None and NaN are `missing`."""
    if value is None or value != value:
        return missing
    rounded = round(value, digits) + 0.0  # turns −0.0 into 0.0
    text = f"{abs(rounded):,.{digits}f}"
    return ("−" if rounded < 0 else "+" if signed and rounded > 0 else "") + text


def percent(value: float | None, digits: int = 1, *, signed: bool = False, missing: str = "–") -> str:
    """Format a fraction or relative change as a percentage."""
    if value is None or value != value:
        return missing
    return number(100 * value, digits, signed=signed) + f"{NARROW}%"


def estimate_and_ends(
    ends: Ends, digits: int, *, share: bool = False, signed: bool = False, missing: str = "–"
) -> tuple[str, str]:
    """Format an estimate and its 95 % interval, as `−11.8 %` and `[−27.6 %, 3.1 %]`; without ends, the estimate alone.

    Args:
        ends: the values; None is written as `missing`.
        digits: after the point.
        share: write percentages.
        signed: write + before what is above zero.
        missing: stands for what is undefined.
    """
    form = percent if share else number
    value, low, high = (
        form(end, digits, signed=signed, missing=missing) for end in (ends.estimate, ends.low, ends.high)
    )
    return value, "" if ends.low is None and ends.high is None else f"[{low}, {high}]"


def interval(
    ends: Ends, digits: int, *, share: bool = False, signed: bool = False, missing: str = "–"
) -> str:
    """Format an estimate with its 95 % interval in a line; arguments as `estimate_and_ends`."""
    return " ".join(estimate_and_ends(ends, digits, share=share, signed=signed, missing=missing)).strip()


def quality_at_cost(quality: float, cost: float) -> str:
    """Format a mean quality and dollars an image as `5.1 at 0.4 dollars`, those of 1,000 images."""
    return f"{number(quality, 3)} at {number(1000 * cost, 4)} dollars"


def beside(gain: float) -> str:
    """Format a gain in quality as `0.021 higher`, or `the same`."""
    size = number(abs(gain), 3)
    return "the same" if float(size) == 0 else f"{size} {'higher' if gain > 0 else 'lower'}"


def cost_comparison(change: float) -> str:
    """Format a relative change of cost as `35 % less than`, or `as much as`."""
    if round(100 * change) == 0:
        return "as much as"
    return f"{percent(abs(change), 0)} {'less' if change < 0 else 'more'} than"
