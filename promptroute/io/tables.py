"""Tables as parquet, checked on the way in and out."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from promptroute.core.errors import UserError
from promptroute.core.rows import check, schema
from promptroute.io.files import atomic_path


def write_table(
    path: Path | str,
    frame: pd.DataFrame,
    record: type,
    key: tuple[str, ...] = ("prompt_id",),
    about: Mapping[str, str] | None = None,
) -> None:
    """Write rows of `record` as parquet, checked, with the record's schema.

    Args:
        path: where to.
        frame: the rows; columns that the record doesn't have are an error.
        record: the dataclass that each row is.
        key: columns that together name a row.
        about: facts about the file as a whole, kept in its metadata (as the checksum of its source).

    Raises:
        UserError: where `check` refuses the rows.
    """
    check(frame, record, str(path), key)
    columns = schema(record)
    extra = [name for name in frame.columns if name not in columns.names]
    if extra:
        raise UserError(f"{path}: columns {extra} are not part of a {record.__name__} row")
    metadata = {name: str(value) for name, value in (about or {}).items()}
    table = pa.Table.from_pandas(frame[columns.names], columns, preserve_index=False)
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, write_page_checksum=True)


def read_table(path: Path | str, record: type, key: tuple[str, ...] = ("prompt_id",)) -> pd.DataFrame:
    """Read a file that `write_table` wrote: columns of `record`, in its order; rows as they stand.

    `frame.attrs` holds what the file says about itself.

    Raises:
        UserError: the file is absent, corrupt, or holds other rows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` makes it")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: not a readable parquet file ({error}); delete it and run `dvc repro`"
        ) from error
    frame = table.to_pandas()
    check(frame, record, str(path), key)
    about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
    frame = frame[schema(record).names]
    frame.attrs = about
    return frame
