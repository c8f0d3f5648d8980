"""Tokenizers from strangers: known parts are read, others refused, and a panic of the library is an error of ours."""

import base64
import json
from typing import Any

import pytest

from promptroute.encoders.tokens import Unreadable, read_tokenizer, tokenize
from tests.encoders.test_static import tokenizer


def changed(**parts: Any) -> str:
    return json.dumps({**json.loads(tokenizer()), **parts})


def sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def table(made: bytes) -> dict[str, Any]:
    content = (4).to_bytes(4, "little") + bytes(4) + made
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$b"}, "behavior": "Isolated", "invert": False}
TEMPLATE = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}


def test_known_parts() -> None:
    own = sequence({"type": "NFKC"}, replace({"Regex": " {2,}"}, " "), replace({"String": "``"}, '"'))
    made = read_tokenizer(changed(normalizer=own), 5)
    assert tokenize(made, ["red car"])[0].ids == [1, 2]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "JSONDecodeError"),
        ("[" * 100_000, "RecursionError"),
        ("[]", "no model"),
        (changed(model={"type": "\x1b[31m"}), "a model '.x1b"),
        (changed(pre_tokenizer=SPLIT), "pre_tokenizer is 'Split'"),
        (changed(normalizer=sequence(sequence(replace({"Regex": "(a+)+$b"}, "")))), "it replaces"),
        (changed(normalizer=replace({"String": "a"}, "aa")), "it replaces"),
        (changed(normalizer={"type": "Prepend", "prepend": "a"}), "normalizer is 'Prepend'"),
        (changed(normalizer=table(b"a" * 65)), "more than 64 bytes of a character"),
        (changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "PanicException"),
        (changed(normalizer=7), "normalizer is 7"),
        (changed(post_processor={**TEMPLATE, "single": [{}] * 17}), "more than 16 tokens"),
        (changed(model={"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}), "tokenizer: "),
        (changed(model={**json.loads(tokenizer())["model"], "max_input_chars_per_word": 10**9}), "max_input"),
        (changed(model={**json.loads(tokenizer())["model"], "vocab": {"[UNK]": 10**9}}), "beyond the table"),
    ],
)
def test_refused(content: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read_tokenizer(content, 5)


def test_interrupts_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "loads", stop)
    with pytest.raises(KeyboardInterrupt):
        read_tokenizer(tokenizer())
