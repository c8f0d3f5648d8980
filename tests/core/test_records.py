"""Rows are checked against what their record declares, and the message says which row and why."""

import numpy as np
import pandas as pd
import pytest

from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.core.names import MODEL_NAME, check_names
from promptroute.core.rows import Prompt, Score, SplitRow, check, schema


def prompts(**changes: object) -> pd.DataFrame:
    rows = {"prompt_id": ["A1", "A2"], "prompt": ["a dog", "a cat"], "set": ["A", "A"], "count": [1, 2]}
    return pd.DataFrame({**rows, **changes})


def test_schema_follows_the_record() -> None:
    found = schema(Score)
    assert found.names == ["prompt_id", "seed", "output", "value", "images", "seconds"]
    assert [str(field.type) for field in found] == ["string", "int64", "string", "double", "int64", "double"]
    assert [field.nullable for field in found] == [False, True, False, False, False, True]
    assert found.field("seconds").metadata == {b"unit": b"s per image"}


def test_good_rows_pass() -> None:
    check(prompts(), Prompt, "file")
    check(
        pd.DataFrame(
            {
                "prompt_id": ["a"],
                "seed": [None],
                "output": ["o"],
                "value": [1.0],
                "images": [3],
                "seconds": [None],
            }
        ),
        Score,
        "f",
    )


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (prompts().drop(columns="set"), r"f.parquet: columns \['set'\] are missing"),
        (prompts(prompt=["a dog", None]), r"prompt .* is empty in the row of prompt_id 'A2'"),
        (prompts(count=[1, 0]), r"count .*0.* is below 1 in the row of prompt_id 'A2'; 1 such row"),
        (prompts(count=["one", 2]), r"count \('one'\) is not a number in the row of prompt_id 'A1'"),
        (prompts(count=[1, float("inf")]), r"count .* is not finite"),
        (prompts(prompt_id=["A1", "A1"]), r"prompt_id \('A1'\) is a duplicate"),
    ],
)
def test_a_bad_row_is_named(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(frame, Prompt, "f.parquet")


def test_disallowed_value() -> None:
    with pytest.raises(UserError, match=r"split \('dev'\) is not one of"):
        check(pd.DataFrame({"prompt_id": ["a"], "split": ["dev"]}), SplitRow, "f")


@pytest.mark.parametrize("name", ["sd2.1", "../up", "A", "", "a b", "-a", 3])
def test_unsafe_names_refused(name: str) -> None:
    with pytest.raises(UserError, match="can't be used"):
        check_names([name], MODEL_NAME, "model")


def test_names_that_are_paths_pass() -> None:
    check_names(["sd-turbo", "0x", "a_b"], MODEL_NAME, "model")


def test_units_are_units() -> None:
    units = {field.name: field.metadata[b"unit"].decode() for field in schema(Score) if field.metadata}
    assert units == {"images": "images behind the score", "seconds": "s per image"}
    assert schema(Prompt).field("count").metadata == {b"unit": b"rows"}


def test_batch_keeps_rows_together() -> None:
    batch = PromptBatch(["a", "b", "c"], {"e": np.arange(6, dtype=np.float32).reshape(3, 2)})
    taken = batch.take(np.array([2, 0, 2]))
    assert list(taken.texts) == ["c", "a", "c"] and len(taken) == 3
    assert taken.embeddings["e"].tolist() == [[4, 5], [0, 1], [4, 5]]
    for rows in (np.zeros((2, 4)), np.zeros(3)):
        with pytest.raises(UserError, match=r"embeddings 'e' are \(.*\); expected \[3, d\]"):
            PromptBatch(["a", "b", "c"], {"e": rows})
