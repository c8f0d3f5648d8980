"""encode_all: each text once, in batches of like length, back in order."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.encoders.base import encode_all


class Letters:
    """Counts the letters a, b and c; remembers the batches it was given."""

    batch_size = 2

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.description = {"encoder": "Letters"}
        self.fingerprint = "letters"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(list(texts))
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)


def test_rows_come_back_in_order_and_each_text_is_encoded_once() -> None:
    encoder = Letters()
    rows = encode_all(encoder, ["a", "bbb", "a", "cc", "abc"], progress=False)
    assert rows.tolist() == [[1, 0, 0], [0, 3, 0], [1, 0, 0], [0, 0, 2], [1, 1, 1]]
    assert rows.dtype == np.float32
    assert encoder.batches == [["abc", "bbb"], ["cc", "a"]]  # longest first, two at a time, "a" once


@given(st.lists(st.text("abc ", max_size=6), min_size=1, max_size=20), st.integers(1, 7))
def test_any_batching_gives_each_text_its_own_row(texts: list[str], size: int) -> None:
    encoder = Letters()
    rows = encode_all(encoder, texts, size, progress=False)
    np.testing.assert_array_equal(rows, Letters().encode(texts))
    assert sum(map(len, encoder.batches)) == len(set(texts))
    assert max(map(len, encoder.batches)) <= size


def test_half_an_emoji_does_not_stop_a_run() -> None:
    encoder = Letters()
    rows = encode_all(encoder, ["a\ud83d", "b"], progress=False)
    assert rows.tolist() == [[1, 0, 0], [0, 1, 0]]
    for batch in encoder.batches:
        for text in batch:
            text.encode("utf-8")  # what reaches an encoder is always encodable


def test_bad_input() -> None:
    class Broken(Letters):
        def __init__(self, answer: np.ndarray) -> None:
            super().__init__()
            self.answer = answer

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return self.answer

    with pytest.raises(UserError, match="at least one prompt"):
        encode_all(Letters(), [])
    with pytest.raises(UserError, match="text 1 is None"):
        encode_all(Letters(), ["a", None])  # type: ignore[list-item]
    with pytest.raises(UserError, match="batch_size is 0"):
        encode_all(Letters(), ["a"], 0)
    with pytest.raises(UserError, match=r"Broken gave \(3, 2\) for 1 texts"):
        encode_all(Broken(np.zeros((3, 2))), ["a"], progress=False)
    with pytest.raises(UserError, match="not finite"):
        encode_all(Broken(np.full((1, 2), np.nan)), ["a"], progress=False)
