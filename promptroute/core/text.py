"""Tell readable text from what only looks like text."""

import unicodedata
from collections.abc import Iterable

_UNSEEN = {"Cc", "Cf", "Cn", "Mn", "Me", "Zl", "Zp", "Zs"}
"""Unicode categories that show nothing by themselves: controls, format characters, spaces, lone marks."""
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and a symbol, by their categories, that are empty: Hangul's fillers, and Braille without a dot."""


def is_blank(text: str) -> bool:
    """Tell whether a text shows nothing, as an empty one, spaces, or zero-width characters."""
    return all(unicodedata.category(sign) in _UNSEEN or sign in _FILLERS for sign in text)


def number(text: str, decimal: str = ".") -> float | None:
    """Read a finite number as a file should spell it: ASCII digits, no underscores; None where it isn't one.

    Where `decimal` is a comma, one comma may stand in place of the point; no sign ever groups thousands.
    """
    if decimal == "," and "." not in text and text.count(",") == 1:
        text = text.replace(",", ".")
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 else None  # infinity and NaN fail


def listed(names: Iterable[object]) -> str:
    """List names for a message: a dozen at most, each no longer than 40 signs, as they may be other people's text."""
    cut = [text if len(text) <= 40 else text[:37] + "..." for text in map(str, names)]
    return ", ".join(cut[:12]) + (f" and {len(cut) - 12} more" if len(cut) > 12 else "")


def escaped(text: str) -> str:
    """Escape control characters and others that show nothing: the text may be other people's."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def one_line(text: str) -> str:
    """Put a message on one line, its control characters escaped: it may quote other people's text."""
    return escaped(" ".join(line.strip() for line in text.splitlines()))


def short(value: object) -> str:
    """Quote a value for a message: escaped, and no longer than 80 signs, as it may be other people's text."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
