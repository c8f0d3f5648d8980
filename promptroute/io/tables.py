"""Tables as parquet, checked on the way in and out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from promptroute.core.errors import NotMade, UserError
from promptroute.core.rows import check, schema
from promptroute.core.text import short
from promptroute.io.cache import digest
from promptroute.io.files import AGAIN, atomic_path

_FACTS = "facts"
"""The fact that stands for all others and the number of rows, which parquet's own checksums leave out."""


def write_table(
    path: Path | str,
    frame: pd.DataFrame,
    record: type,
    key: tuple[str, ...] = ("prompt_id",),
    about: Mapping[str, str] | None = None,
) -> None:
    """Write rows of `record` as parquet, checked, with the record's schema.

    Args:
        path, frame: where to, and the rows; columns that the record doesn't have are an error.
        record, key: the dataclass that each row is, and columns that together name a row.
        about: facts about the file as a whole, kept in its metadata (as the checksum of its source).

    Raises:
        UserError: where `check` refuses the rows.
    """
    check(frame, record, str(path), key)
    columns = schema(record)
    if extra := [name for name in frame.columns if name not in columns.names]:
        raise UserError(f"{path}: columns {extra} are not part of a {record.__name__} row")
    metadata = {name: str(value) for name, value in (about or {}).items()}
    metadata |= {_FACTS: digest(metadata, len(frame))}
    table = pa.Table.from_pandas(frame[columns.names], columns, preserve_index=False)
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, write_page_checksum=True)


def read_table(
    path: Path | str,
    record: type,
    key: tuple[str, ...] = ("prompt_id",),
    states: Sequence[str] = (),
    may_be_empty: bool = False,
) -> pd.DataFrame:
    """Read a file that `write_table` wrote: columns of `record`, in its order; rows as they stand.

    `frame.attrs` holds what the file says about itself, at least the facts that `states` names. Only where
    `may_be_empty` may it hold no rows.

    Raises:
        UserError: the file is absent, empty, corrupt, holds other rows, or lacks a fact.
    """
    path = Path(path)
    if not path.is_file():
        raise NotMade(f"{path}: no such file; make it")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
        if about.pop(_FACTS, None) not in (None, digest(about, len(table))):
            raise ValueError("what it says about itself is not what was written")
        frame = table.to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NotMade(f"{path}: not a readable parquet file ({error}); {AGAIN}") from error
    for field in schema(record):
        found = table.schema.field(field.name).type if field.name in table.column_names else field.type
        if _kind(found) not in (_kind(field.type), "null"):
            raise NotMade(f"{path}: {field.name} holds {short(str(found))}, expected {field.type}; {AGAIN}")
    check(frame, record, str(path), key)
    if lost := [name for name in states if name not in about]:
        raise NotMade(f"{path}: says nothing of its {', '.join(lost)}; {AGAIN}")
    if frame.empty and not may_be_empty:
        raise NotMade(f"{path}: holds no rows; {AGAIN}")
    frame = frame[schema(record).names]
    frame.attrs = about
    return frame


def of_prompts(prompts: pd.DataFrame) -> dict[str, str]:
    """Give the fact by which a table says of which prompts it is: a digest of their ids and texts."""
    return {"prompts": digest(prompts["prompt_id"].tolist(), prompts["prompt"].tolist())[:16]}


def check_prompts(path: Path | str, stated: str | None, prompts: Mapping[str, str]) -> None:
    """Refuse a table that states other prompts than `of_prompts` gave; one that states none (None) passes.

    Raises:
        UserError: naming the file.
    """
    if stated not in (None, prompts["prompts"]):
        raise NotMade(f"{path}: is of other prompts than this study's; files were swapped, so make it again")


def _kind(found: pa.DataType) -> str:
    """Tell columns apart by what their values are: text and numbers come in several widths and encodings."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return "text"
    return "number" if pa.types.is_integer(found) or pa.types.is_floating(found) else str(found)
