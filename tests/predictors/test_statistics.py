"""Text statistics by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.predictors.statistics import STATISTICS, statistics


def test_by_hand() -> None:
    row = dict(zip(STATISTICS, statistics(['A "Red" car, by Bob (4k): é.'])[0], strict=True))
    log = np.log1p
    # Six words (A, "Red", car, by, Bob, (4k):, é.) are seven between white space; 28 characters in all.
    assert row == pytest.approx(
        {
            "words": log(7),
            "characters": log(28),
            "commas": log(1),
            "commas_per_word": 1 / 7,
            "sentence_ends": log(1),
            "digits": log(1),
            "capitals": 3 / 28,
            "word_length": (1 + 3 + 3 + 2 + 3 + 2 + 1) / 7,
            "distinct_words": 1,
            "function_words": 2 / 7,  # a, by
            "part_length": log(7 / 2),
            "by": log(1),
            "starts_capital": 1,
            "ends_full_stop": 1,
            "quotes": 1,
            "brackets": 1,
            "other_marks": log(1),
            "non_ascii": 1 / 28,
            "one_word": 0,
        }
    )


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_finite(texts: list[str]) -> None:
    rows = statistics(texts)
    assert rows.shape == (len(texts), len(STATISTICS))
    assert np.isfinite(rows).all()
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(statistics([text])[0], row)


def test_empty_text() -> None:
    assert not statistics([""]).any()
