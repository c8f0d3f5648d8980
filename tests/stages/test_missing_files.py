"""A file between stages that is missing, empty or another is told in a line, and nothing is half-written."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptroute.io.cache import digest
from promptroute.io.parquet import file_facts
from tests.stages.small import run

Change = Callable[[pa.Table], pa.Table]
SOURCE, PROMPTS, PERFORMANCE = (
    "data/sources/cems_table.parquet",
    "data/prompts.parquet",
    "data/performance.parquet",
)
HELD = "data/predictor/out_of_fold.parquet"


def refused(study: Path, stage: str, said: str) -> None:
    ran = run(study, *stage.split())
    assert ran.status == 1 and ran.err.count("\n") == 1, ran
    assert ran.err.startswith(f"error: {said}"), ran


@pytest.mark.parametrize(
    "content", [None, b"", b"[" * 100_000, b"null", b"{}", b"PAR1" + bytes(100) + b"PAR1"]
)
@pytest.mark.parametrize("file", ["quality.json", "out_of_fold.parquet"])
def test_predictor(study: Path, file: str, content: bytes | None) -> None:
    path = study / "data/predictor" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    refused(study, "calibrate", "data/predictor")


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("report", "metrics/evaluate.json"),
        ("evaluate", "data/router/router.json"),
        ("evaluate", "data/router/manifest.json"),
    ],
)
def test_folder_in_place_of_json(study: Path, stage: str, file: str) -> None:
    path = study / file
    path.unlink()
    path.mkdir()
    refused(study, stage, f"{file}: not readable as JSON")


def bytes_for_text(table: pa.Table) -> pa.Table:
    return table.set_column(0, table.column_names[0], table.column(0).cast(pa.binary()))


def ids(values: list[object]) -> Change:
    return lambda table: table.set_column(
        table.column_names.index("prompt_id"), "prompt_id", pa.array(values * len(table))
    )


@pytest.mark.parametrize(
    ("stage", "file", "change", "said"),
    [
        ("sample", SOURCE, lambda table: table[:0], f"{SOURCE}: holds no rows; delete it"),
        ("describe", SOURCE, lambda table: table[:0], f"{SOURCE}: holds no rows"),
        ("compare", PERFORMANCE, lambda table: table[:0], f"{PERFORMANCE}: holds no rows"),
        ("report", PERFORMANCE, lambda table: table[:0], f"{PERFORMANCE}: holds no rows"),
        ("sample", SOURCE, lambda table: table.replace_schema_metadata(None), f"{SOURCE}: says nothing of its files, own_ids"),
        ("describe", SOURCE, lambda table: table.replace_schema_metadata(None), f"{SOURCE}: says nothing of its files"),
        ("split", PROMPTS, bytes_for_text, f"{PROMPTS}: prompt_id holds 'binary', expected string; delete it"),
        ("report", PERFORMANCE, lambda table: table[:1], f"{PERFORMANCE}: no nima.mean score of model sd-turbo"),
        ("calibrate", HELD, lambda table: table[:0].replace_schema_metadata(None), f"{HELD}: not a finite prediction of each validation prompt"),
        ("calibrate", HELD, lambda table: table[:4], f"{HELD}: not out-of-fold predictions that can be read"),
        ("calibrate", HELD, ids([{"a": 1}]), f"{HELD}: not "),
        ("calibrate", HELD, ids(["DRAW0"]), f"{HELD}: not "),
    ],
)  # fmt: skip
def test_other_table(study: Path, stage: str, file: str, change: Change, said: str) -> None:
    path = study / file
    table = change(pq.read_table(path))
    about = file_facts(table.schema)
    if about.pop("facts", None):  # as `write_table` would have written these rows
        about["facts"] = digest(about, len(table))
        table = table.replace_schema_metadata(about)
    pq.write_table(table, path)
    refused(study, stage, said)
