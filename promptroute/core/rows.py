"""Typed rows that travel between stages, and the Arrow schema of each file.

A record is a frozen dataclass; `schema(Record)` gives the Arrow schema of a file that holds such rows,
and `check(frame, Record)` refuses one that does not. Nothing here reads or writes.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from promptroute.core.errors import UserError

SPLITS = ("train", "validation", "test")
LARGEST = 1e30
"""Size of a score, at most: what lies beyond can't be squared and summed in float64, and is no score."""


def column(
    *, unit: str = "", low: float | None = None, high: float | None = None, values: tuple[str, ...] = ()
) -> Any:
    """Declare a record's field with its unit and range (ends included), or the values it may take."""
    return dataclasses.field(metadata={"unit": unit, "low": low, "high": high, "values": values})


@dataclass(frozen=True)
class Prompt:
    """One row of data/prompts.parquet. The order of rows is the order of the source."""

    prompt_id: str = column()
    prompt: str = column()
    set: str = column()
    """Short name of the prompt set that it was taken from, as `DRAW` or `PP`."""
    count: int = column(unit="rows", low=1)
    """Rows of its source with this text."""


@dataclass(frozen=True)
class Score:
    """One row of data/scores/SCORER/MODEL/scores.parquet: the waist between generating (or reading) and routing."""

    prompt_id: str = column()
    seed: int | None = column(low=0)
    """Null for a score over all of a prompt's images, and for a published mean."""
    output: str = column()
    """Name of the scorer's output; SCORER.OUTPUT is the score's full name."""
    value: float = column(low=-LARGEST, high=LARGEST)
    """In the output's own unit and direction (see `promptroute.core.outputs.Output`)."""
    images: int = column(unit="images behind the score", low=1)
    seconds: float | None = column(unit="s per image", low=0)
    """Mean time that generating took, where that was recorded."""


SCORE_KEY = ("prompt_id", "seed", "output")
"""Columns that together name a `Score` row."""


@dataclass(frozen=True)
class Performance:
    """One row of data/performance.parquet: how well a model did on a prompt, by one score."""

    prompt_id: str = column()
    model: str = column()
    score: str = column()
    """The score's full name, SCORER.OUTPUT."""
    mean: float = column(low=-LARGEST, high=LARGEST)
    """Mean over the images, in the score's own unit and direction."""
    std: float | None = column(low=0)
    """Sample standard deviation over the images (n - 1); null where single images are not known."""
    n: int = column(unit="images", low=1)
    seconds: float | None = column(unit="s per image", low=0)


@dataclass(frozen=True)
class SplitRow:
    """One row of data/split.parquet."""

    prompt_id: str = column()
    split: str = column(values=SPLITS)


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _plain(annotation: Any) -> tuple[type, bool]:
    """Return the type behind an annotation, and whether null is allowed."""
    if isinstance(annotation, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return kinds[0], True
    return annotation, False


def schema(record: type) -> pa.Schema:
    """Return the Arrow schema of a file of `record` rows; each field's unit stands in its metadata."""
    hints = typing.get_type_hints(record)
    fields = []
    for field in dataclasses.fields(record):
        kind, nullable = _plain(hints[field.name])
        unit = field.metadata.get("unit")
        fields.append(pa.field(field.name, _ARROW[kind], nullable, {"unit": unit} if unit else None))
    return pa.schema(fields)


def check(frame: pd.DataFrame, record: type, where: str, key: tuple[str, ...] = ("prompt_id",)) -> None:
    """Refuse a table that holds other than `record` rows.

    Args:
        frame, record: the rows, in any order, and the dataclass that each should be.
        where: file name for the message.
        key: columns that together name a row; they must be unique.

    Raises:
        UserError: naming `where`, the column and the first offending row: a missing column, a null
            where none may be, a value out of range, or a duplicate key.
    """
    hints = typing.get_type_hints(record)
    names = [field.name for field in dataclasses.fields(record)]
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise UserError(f"{where}: columns {missing} are missing; a {record.__name__} row has {names}")
    for field in dataclasses.fields(record):
        values = frame[field.name]
        kind, nullable = _plain(hints[field.name])
        _refuse(values.isna() & (not nullable), frame, where, key, field.name, "is empty")
        if kind in (int, float):
            numbers = pd.to_numeric(values, errors="coerce")
            _refuse(numbers.isna() & values.notna(), frame, where, key, field.name, "is not a number")
            low, high = field.metadata.get("low"), field.metadata.get("high")
            if low is not None:
                _refuse(numbers < low, frame, where, key, field.name, f"is below {low}")
            if high is not None:
                _refuse(numbers > high, frame, where, key, field.name, f"is above {high}")
            infinite = numbers.isin([float("inf"), float("-inf")])
            _refuse(infinite, frame, where, key, field.name, "is not finite")
        if allowed := field.metadata.get("values"):
            _refuse(~values.isin(allowed), frame, where, key, field.name, f"is not one of {allowed}")
    _refuse(frame.duplicated(list(key)), frame, where, key, " + ".join(key), "is a duplicate")


def _refuse(
    bad: "pd.Series[bool]", frame: pd.DataFrame, where: str, key: tuple[str, ...], name: str, what: str
) -> None:
    if not bad.any():
        return
    row = frame[bad.to_numpy()].iloc[0]
    at = ", ".join(f"{part} {row[part]!r}" for part in key)
    value = f" ({row[name]!r})" if name in row.index else ""
    raise UserError(f"{where}: {name}{value} {what} in the row of {at}; {int(bad.sum())} such row(s)")
