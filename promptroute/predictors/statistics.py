"""Count simple statistics of a prompt's text."""

import math
import re
from collections.abc import Sequence

import numpy as np

_FUNCTION_WORDS = """
a an the this that of in on at with by for from to as and or is are was it its his her their
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_EDGES = ".,;:!?\"'()[]{}"
_BY = re.compile(r"\bby\b", re.IGNORECASE)

STATISTICS = (
    "words",  # log(1 + words between white space)
    "characters",  # log(1 + characters)
    "commas",  # log(1 + commas)
    "commas_per_word",
    "sentence_ends",  # log(1 + full stops, exclamation and question marks)
    "digits",  # log(1 + digits)
    "capitals",  # share of characters that are capitals
    "word_length",  # mean characters per word, without the punctuation at its edges
    "distinct_words",  # different words / words, case aside
    "function_words",  # share of words such as "the" and "of": high in sentences, low in lists of keywords
    "part_length",  # log(1 + mean words per part between commas)
    "by",  # log(1 + times the word "by"), which names artists
    "starts_capital",  # 0 or 1
    "ends_full_stop",  # 0 or 1
    "quotes",  # 0 or 1: a double quotation mark, often text to appear in the image
    "brackets",  # 0 or 1: any of ()[]{}
    "other_marks",  # log(1 + any of : ; | - _ /)
    "non_ascii",  # share of characters beyond ASCII
    "one_word",  # 0 or 1
)


def statistics(texts: Sequence[str]) -> np.ndarray:
    """Return text statistics, float64 [n, len(STATISTICS)], columns as in `STATISTICS`, unscaled, finite.

    A text without words gets 0 for whatever is per word.
    """
    return np.array([_row(text) for text in texts], np.float64).reshape(len(texts), len(STATISTICS))


def _row(text: str) -> list[float]:
    words = text.split()
    bare = [word.strip(_EDGES).lower() for word in words]
    characters, n = max(len(text), 1), max(len(words), 1)
    parts = [part for part in text.split(",") if part.strip()]
    log = math.log1p
    return [
        log(len(words)),
        log(len(text)),
        log(text.count(",")),
        text.count(",") / n,
        log(sum(map(text.count, ".!?"))),
        log(sum(map(str.isdigit, text))),
        sum(map(str.isupper, text)) / characters,
        sum(map(len, bare)) / n,
        len(set(bare)) / n,
        sum(word in FUNCTION_WORDS for word in bare) / n,
        log(len(words) / max(len(parts), 1)),
        log(len(_BY.findall(text))),
        float(text[:1].isupper()),
        float(text.rstrip().endswith(".")),
        float('"' in text),
        float(any(mark in text for mark in "()[]{}")),
        log(sum(map(text.count, ":;|-_/"))),
        sum(ord(character) > 127 for character in text) / characters,
        float(len(words) == 1),
    ]
