"""An output says its range, and scores outside of it are refused."""

import math

import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.core.outputs import Output, check_ranges, full_name, words

OUTPUTS = {"a": Output("a", "A", 0, 10), "b": Output("b", "B"), "heat": Output("heat", "Heat", kind="map")}


def scores(**changes: object) -> pd.DataFrame:
    rows = {"prompt_id": ["P1", "P1", "P2"], "output": ["a", "b", "a"], "value": [0.0, -1e9, 10.0]}
    return pd.DataFrame({**rows, **changes})


def test_ends_are_inside() -> None:
    check_ranges(scores(), OUTPUTS, "file")
    check_ranges(scores()[:0], OUTPUTS, "file")


@pytest.mark.parametrize("value", [10.5, -0.1, math.nan, math.inf])
def test_outside_is_named(value: float) -> None:
    with pytest.raises(
        UserError, match=rf"file: a of prompt P2 is {value:g}, outside of the declared 0 to 10 \(1 such"
    ):
        check_ranges(scores(value=[0.0, 1.0, value]), OUTPUTS, "file")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("c", "holds the output 'c'; the scorer declares a, b"),
        ("heat", "holds the output 'heat'"),
        ("a", "has no output 'b'"),
    ],
)
def test_other_outputs(output: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_ranges(scores(output=["a", output, "a"]), OUTPUTS, "file")


@pytest.mark.parametrize("wrong", [{"name": "A b"}, {"low": 1.0, "high": 1.0}, {"low": math.nan}])
def test_bad_declarations(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="output"):
        Output(**{"name": "a", "label": "A", **wrong})  # type: ignore[arg-type]


def test_names_and_words() -> None:
    assert full_name("nima", "mean") == "nima.mean"
    assert words("  a red\tdog\n") == ["a", "red", "dog"]
