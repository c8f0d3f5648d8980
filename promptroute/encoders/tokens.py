"""Tokenizers from files that may come from a stranger: made of known parts, and none of their failures ends a process."""

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptroute.core.errors import reason
from promptroute.core.text import short

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MODELS = frozenset({"WordPiece", "BPE", "Unigram", "WordLevel"})
PARTS = {
    "normalizer": frozenset(
        {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Replace", "Strip", "StripAccents"}
    ),
    "pre_tokenizer": frozenset(
        {"BertPreTokenizer", "ByteLevel", "Digits", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit"}
    ),
    "post_processor": frozenset(
        {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"}
    ),
}  # fmt: skip
"""What tokenizers of BERT's and RoBERTa's kinds are made of. No part takes a pattern of the file's own, whose search
could take for ever, and none makes a text much longer."""
SPACES = " {2,}"  # XLM-RoBERTa's only pattern
WORD = 1000  # characters that WordPiece looks at in a word, at most: it takes their square
GROWN = 64  # bytes that one character may become by a table; the longest of NFKC's takes 33
ADDED = 16  # special tokens around a text
MOST = 2_000_000  # pieces


class Unreadable(ValueError):
    """A tokenizer's file isn't one of ours, or it fails on a text."""


def read_tokenizer(content: str, size: int | None = None) -> "Tokenizer":
    """Make the tokenizer that its JSON describes, without padding or truncation.

    Args:
        content: as the tokenizers library writes it.
        size: rows of the table that its tokens choose from, where there is one.

    Raises:
        Unreadable: it isn't a tokenizer, is made of other parts than `PARTS`, or has a token beyond the table.
    """
    from tokenizers import Tokenizer

    with _failures():
        _check(json.loads(content))
        made: Tokenizer = Tokenizer.from_str(content)
        made.no_padding()
        made.no_truncation()
        if size is not None and (last := max(made.get_vocab().values(), default=0)) >= size:
            raise Unreadable(f"token {last} is beyond the table's {size} rows")
    return made


def tokenize(tokenizer: "Tokenizer", texts: Sequence[str], special: bool = True) -> "list[Encoding]":
    """Tokenize n texts.

    Args:
        tokenizer: what tokenizes.
        texts: n texts.
        special: add the special tokens around each.

    Raises:
        Unreadable: the tokenizer fails on them.
    """
    with _failures():
        found: list[Encoding] = tokenizer.encode_batch_fast(list(texts), add_special_tokens=special)
    return found


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn what the library raises, its panics too, which are no `Exception`, into an error of ours."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = str(error) if isinstance(error, Unreadable) else reason(error)
        raise Unreadable(f"its tokenizer: {said}") from error


def _check(facts: Any) -> None:
    """Refuse a tokenizer's description that holds more than what ours are made of."""
    if not isinstance(facts, Mapping) or not isinstance(model := facts.get("model"), Mapping):
        raise Unreadable("no model in it")
    if model.get("type", "WordPiece") not in MODELS or len(model.get("vocab", ())) > MOST:
        raise Unreadable(f"a model {short(model.get('type'))}, or more than {MOST} pieces")
    if model.get("max_input_chars_per_word", 0) > WORD:
        raise Unreadable(f"max_input_chars_per_word is above {WORD}")
    for place, kinds in PARTS.items():
        for part in _parts(facts.get(place), place):
            if part.get("type") not in kinds:
                raise Unreadable(
                    f"{place} is {short(part.get('type'))}; expected one of {', '.join(sorted(kinds))}"
                )
            _check_part(part)


def _check_part(part: Mapping[str, Any]) -> None:
    """Refuse a part that makes a text much longer, or searches it for a pattern of the file's own."""
    if part["type"] == "Replace":
        pattern, content = part["pattern"], part["content"]
        if (pattern != {"Regex": SPACES} and "Regex" in pattern) or len(content) > max(
            len(pattern.get("String", "")), 1
        ):
            raise Unreadable(f"it replaces {short(pattern)} by {short(content)}")
    elif part["type"] == "Precompiled":
        table = base64.b64decode(part["precompiled_charsmap"])
        made = table[4 + int.from_bytes(table[:4], "little") :]
        if max(map(len, made.split(b"\0"))) > GROWN:
            raise Unreadable(f"it makes more than {GROWN} bytes of a character")
    elif part["type"] == "TemplateProcessing":
        ids = [one["ids"] for one in part["special_tokens"].values()]
        if max([len(part["single"]), *map(len, ids)]) > ADDED:
            raise Unreadable(f"it adds more than {ADDED} tokens")


def _parts(part: Any, place: str) -> Iterator[Mapping[str, Any]]:
    """Give the parts of a normalizer, pre-tokenizer or post-processor; a sequence's one after another."""
    if part is None:
        return
    if not isinstance(part, Mapping):
        raise Unreadable(f"{place} is {short(part)}")
    if part.get("type") != "Sequence":
        yield part
        return
    for name in ("normalizers", "pretokenizers", "processors"):
        for one in part.get(name, ()):
            yield from _parts(one, place)
