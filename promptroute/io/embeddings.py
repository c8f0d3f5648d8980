"""Embeddings of prompts and of images as parquet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from promptroute.core.errors import UserError
from promptroute.io.files import atomic_path


def write_image_embeddings(
    path: Path | str, prompt_ids: Sequence[str], seeds: Sequence[int], rows: np.ndarray
) -> None:
    """Write embeddings of images: prompt_id, seed and embedding (fixed-size list of float32).

    Args:
        path: where to.
        prompt_ids, seeds: [n] which image each row is of.
        rows: float32 [n, d].
    """
    flat = pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1))
    table = pa.table(
        {
            "prompt_id": pa.array(list(prompt_ids), pa.string()),
            "seed": pa.array(list(seeds), pa.int64()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1]),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_image_embeddings(folder: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read every part of a folder of image embeddings.

    Returns:
        prompt_ids [n] str, seeds int64 [n], embeddings float32 [n, d].

    Raises:
        UserError: the folder is absent, or a part is torn.
    """
    parts = sorted(Path(folder).glob("part-*.parquet"))
    if not parts:
        raise UserError(
            f"{folder}: no embeddings of images; is the encoder listed under encoders? `dvc repro` makes them"
        )
    tables = []
    for part in parts:
        try:
            tables.append(pq.read_table(part, page_checksum_verification=True))
        except (OSError, ValueError) as error:
            line = str(error).strip().splitlines()[0]
            raise UserError(
                f"{part}: not a readable table of embeddings ({line}); delete it and run `dvc repro`"
            ) from error
    table = pa.concat_tables(tables).combine_chunks()
    column = table.column("embedding")
    width = column.type.list_size
    vectors = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return np.array(table.column("prompt_id").to_pylist()), table.column("seed").to_numpy(), vectors


def write_embeddings(path: Path | str, prompt_ids: Sequence[str], rows: np.ndarray) -> None:
    """Write data/text/ENCODER.parquet: prompt_id and embedding (fixed-size list of float32)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from promptroute.io.files import atomic_path

    flat = pa.array(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1))
    table = pa.table(
        {
            "prompt_id": pa.array(list(prompt_ids), pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1]),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_embeddings(path: Path | str) -> pd.DataFrame:
    """Read what `write_embeddings` wrote: columns prompt_id and embedding.

    Raises:
        UserError: the file is absent or torn.
    """
    try:
        return pd.read_parquet(path, columns=["prompt_id", "embedding"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: not a readable table of embeddings ({error}); delete it and run `dvc repro`"
        ) from error
