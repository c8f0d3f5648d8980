"""Prompts with their embeddings: rows, joins, and what is missing."""

import numpy as np
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError

BATCH = PromptBatch(["a", "b", "c"], {"one": np.arange(6, dtype=np.float32).reshape(3, 2)})


def test_take() -> None:
    taken = BATCH.take(np.array([2, 0]))
    assert list(taken.texts) == ["c", "a"] and taken.vectors("one").tolist() == [[4, 5], [0, 1]]


def test_joined() -> None:
    both = BATCH.joined(BATCH.take(np.array([1])))
    assert list(both.texts) == ["a", "b", "c", "b"] and both.vectors("one")[3].tolist() == [2, 3]
    with pytest.raises(UserError, match="can't be joined; encode both"):
        BATCH.joined(PromptBatch(["d"]))


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"embeddings 'one' are \(2, 2\); expected \[1, d\]"):
        PromptBatch(["a"], {"one": np.zeros((2, 2), np.float32)})
    with pytest.raises(UserError, match="no embeddings 'two', this batch has: one"):
        BATCH.vectors("two")
    with pytest.raises(UserError, match="'one' are 2 wide, but the predictor was fitted on 3"):
        BATCH.vectors("one", 3)
