"""encode_all: each text once, in batches of similar length, back in order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PrivateAttr

from promptroute.core.errors import UserError
from promptroute.encoders.base import TextEncoder, encode_all


class Letters(TextEncoder):
    """Counts the letters a, b and c; remembers the batches it was given."""

    batch_size: int = 2
    _batches: list[list[str]] = PrivateAttr(default_factory=list)

    @property
    def batches(self) -> list[list[str]]:
        return self._batches

    def weights(self) -> dict[str, Any]:
        return {"dim": 3}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self._batches.append(list(texts))
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)


def test_order_and_duplicates() -> None:
    encoder = Letters()
    rows = encode_all(encoder, ["a", "bbb", "a", "cc", "abc"], progress=False)
    assert rows.tolist() == [[1, 0, 0], [0, 3, 0], [1, 0, 0], [0, 0, 2], [1, 1, 1]]
    assert rows.dtype == np.float32
    assert encoder.batches == [["abc", "bbb"], ["cc", "a"]]  # longest first, two at a time, "a" once


@given(st.lists(st.text("abc ", max_size=6), min_size=1, max_size=20), st.integers(1, 7))
def test_any_batching(texts: list[str], size: int) -> None:
    encoder = Letters()
    rows = encode_all(encoder, texts, size, progress=False)
    np.testing.assert_array_equal(rows, Letters().encode(texts))
    assert sum(map(len, encoder.batches)) == len(set(texts))
    assert max(map(len, encoder.batches)) <= size


def test_half_an_emoji() -> None:
    encoder = Letters()
    rows = encode_all(encoder, ["a\ud83d", "b"], progress=False)
    assert rows.tolist() == [[1, 0, 0], [0, 1, 0]]
    for batch in encoder.batches:
        for text in batch:
            text.encode("utf-8")  # what reaches an encoder is always encodable


def test_refusals() -> None:
    class Broken(Letters):
        answer: Any

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.array(self.answer)

    with pytest.raises(UserError, match="at least one prompt"):
        encode_all(Letters(), [])
    with pytest.raises(UserError, match="text 1 is None"):
        encode_all(Letters(), ["a", None])  # type: ignore[list-item]
    with pytest.raises(UserError, match="batch_size is 0"):
        encode_all(Letters(), ["a"], 0)
    with pytest.raises(UserError, match=r"Broken gave \(3, 2\) for 1 texts"):
        encode_all(Broken(answer=[[0, 0]] * 3), ["a"], progress=False)
    with pytest.raises(UserError, match="not finite"):
        encode_all(Broken(answer=[[np.nan, 0]]), ["a"], progress=False)
