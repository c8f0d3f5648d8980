"""Parquet files with checksums that say whose they are."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from promptroute.core.errors import UserError
from promptroute.io.files import atomic_path

_UNREADABLE = (OSError, ValueError, KeyError, OverflowError, MemoryError, pa.ArrowException)
"""What pyarrow raises on files that are corrupt; an error of the machine's has an errno, and passes."""


@contextlib.contextmanager
def _reading(path: Path | str, what: str) -> Iterator[None]:
    """Say in a line that a file is corrupt."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, UserError) or getattr(error, "errno", None):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: not {what} that can be read ({line}); delete it and make it again"
        ) from error


def write_parquet(path: Path | str, table: pa.Table, about: Mapping[str, str], **options: Any) -> None:
    """Write a table whole or not at all, each page with its checksum; equal tables give equal bytes.

    `about`: facts about the file as a whole, added to its metadata; `options`: of `pyarrow.parquet.write_table`.
    """
    about = {**about, _LAYOUT: _layout(table.schema, table.num_rows)}
    metadata = {
        **(table.schema.metadata or {}),
        **{key.encode(): value.encode() for key, value in about.items()},
    }
    with atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(metadata), temporary, **{"write_page_checksum": True, **options}
        )


def read_parquet(
    path: Path | str,
    what: str,
    columns: Sequence[str] | None = None,
    expected: Mapping[str, str] | None = None,
) -> pa.Table:
    """Read a table, its checksums verified.

    Args:
        path, what: the file, and what it holds, for the message.
        columns: names of the columns to read, all of which must be there; None reads all.
        expected: facts that the file must state about itself.

    Raises:
        UserError: the file is absent, corrupt, without a column, or states other facts.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it again")
    with _reading(path, what), pq.ParquetFile(path, page_checksum_verification=True) as file:
        stated = file_facts(file.schema_arrow)
        for fact, value in (expected or {}).items():
            if stated.get(fact) != value:
                raise UserError(
                    f"{path}: {fact} is {stated.get(fact, 'not stated')}, expected {value}, so this is not the file "
                    f"that belongs here; delete it and make it again"
                )
        layout = stated.get(_LAYOUT)
        if layout is not None and layout != _layout(file.schema_arrow, file.metadata.num_rows):
            raise ValueError("its columns or rows are not those that were written")
        if absent := sorted(set(columns or ()) - set(file.schema_arrow.names)):
            raise ValueError(f"no column {absent[0]}")
        table = file.read(columns=None if columns is None else list(columns))
        if len(table) != file.metadata.num_rows:
            raise ValueError("it is cut off")
        facts = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"pandas"}
        return table.replace_schema_metadata(facts)  # pandas would believe its own, which no checksum covers


def read_facts(path: Path | str, what: str) -> dict[str, str]:
    """Return what a file states about itself, without reading its rows.

    Raises:
        UserError: as `read_parquet`.
    """
    with _reading(path, what):
        return file_facts(pq.read_schema(path))


def file_facts(schema: pa.Schema) -> dict[str, str]:
    """Return the metadata of a schema as text."""
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


_LAYOUT = "layout"
"""The fact that stands for the part of a file that parquet's own checksums leave out."""


def _layout(schema: pa.Schema, rows: int) -> str:
    """Digest of the names and types of the columns, and of the number of rows."""
    # A list's values are called item in Arrow and element in parquet.
    types = [(field.name, str(field.type).replace("<item:", "<element:")) for field in schema]
    text = f"{types} {rows}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
