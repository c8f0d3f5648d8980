"""Prompts as the network reads and writes them: words, labels, and tokens."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.outputs import words as spaced_words
from promptroute.feedback.marking import MARK
from promptroute.feedback.settings import END, MAX_TOKENS, START

_BREAKS = re.compile(r'[ ,.?!":;]+')
"""Where RichHF splits prompts into the words that it labels."""


def prompt_words(prompt: str) -> list[str]:
    """Return the words of a prompt that people label in RichHF: split at spaces and , . ? ! " : ; and nowhere else.

    A word that holds other white space (a tab, a line end) is split there too, for a text is compared by white space.
    """
    return [word for part in _BREAKS.split(prompt) for word in part.split()]


def on_spaced_words(prompt: str, values: Sequence[float]) -> np.ndarray:
    """Carry values of `prompt_words` over to the words that white space separates: the highest of each word's parts.

    Returns:
        float32 [words], 0 for one of punctuation alone.
    """
    carried, at = [], 0
    for word in spaced_words(prompt):
        parts = len(prompt_words(word))
        carried.append(max(values[at : at + parts], default=0.0))
        at += parts
    return np.array(carried, np.float32)


def labelled(words: Sequence[str], marked: Sequence[bool] | np.ndarray) -> list[str]:
    """Put `_0` behind the words that an image misses."""
    return [word + MARK if mark else word for word, mark in zip(words, marked, strict=True)]


class WordTokens:
    """T5's tokenizer, word by word: as a text is split at spaces first, a text's ids are those of its words in a row.

    Args:
        source: a tokenizer.json, or what `tokenizers` made of one.
        max_tokens: refuse prompts of more.
    """

    def __init__(self, source: Path | str | Any, max_tokens: int = MAX_TOKENS) -> None:
        self.max_tokens = max_tokens
        self.tokenizer = _read(Path(source)) if isinstance(source, str | Path) else source
        self._known: dict[str, list[int]] = {}

    def word(self, word: str) -> list[int]:
        """Return the ids of one word."""
        if word not in self._known:
            self._known[word] = self.tokenizer.encode(word, add_special_tokens=False).ids
        return self._known[word]

    def ids(self, words: Sequence[str]) -> list[int]:
        """Return the ids of a text, and its end.

        Raises:
            UserError: the text is empty or too long.
        """
        if not words:
            raise UserError("the prompt holds no word; give at least one")
        ids = [one for word in words for one in self.word(word)] + [END]
        if len(ids) > self.max_tokens:
            start = " ".join(words)[:40]
            raise UserError(
                f"the prompt {start!r}… has {len(ids)} tokens; expected at most {self.max_tokens}, so shorten it"
            )
        return ids

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return what ids say, without start and padding, up to their end."""
        kept = [int(one) for one in ids if one != START]
        return self.tokenizer.decode(
            kept[: kept.index(END)] if END in kept else kept, skip_special_tokens=True
        )


def _read(path: Path) -> Any:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise UserError(f"{path}: no such tokenizer; give T5's tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"{path}: not a tokenizer.json that can be read ({error}); fetch it again") from error


def pad(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Stack ids: (int64 [n, longest], padded with 0; int64 [n], their lengths)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), max(1, int(lengths.max(initial=0)))), START, np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    return ids, lengths
