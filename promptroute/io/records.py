"""Read the rows of a parquet file that may come from anybody, each cell as the file has it."""

import io
from collections.abc import Sequence

import pandas as pd

from promptroute.core.errors import UserError


def read_parquet_rows(
    content: bytes, where: str, columns: Sequence[str], fix: str, further: bool = False
) -> pd.DataFrame:
    """Read the rows of a parquet file.

    Args:
        content: the file's bytes.
        where: its name, for the message.
        columns: names that it must have.
        fix: what to do where it lacks one, for the message.
        further: whether its other columns are read too.

    Returns:
        A row per record, cells as plain values (None where null), in the file's order; the index `line` is the row
        (from 1).

    Raises:
        UserError: naming the file and the fix: it can't be read, holds no rows, lacks a column, or has one twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        have = file.schema_arrow.names
        wanted = have if further else list(columns)
        if again := sorted({name for name in wanted if have.count(name) > 1}):
            raise UserError(
                f"{where}: {len(have)} columns, of which {again} are duplicates; rename or remove one"
            )
        if missing := [name for name in columns if name not in have]:
            raise UserError(f"{where}: no column {', '.join(missing)}, the file has {', '.join(have)}; {fix}")
        cells = file.read(columns=wanted).to_pydict()
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: not a readable parquet file ({error}); fetch it again") from error
    rows = pd.DataFrame(cells, dtype=object)
    if rows.empty:
        raise UserError(f"{where}: no rows; fetch the file again")
    return rows.set_index(pd.RangeIndex(1, len(rows) + 1, name="line"))
