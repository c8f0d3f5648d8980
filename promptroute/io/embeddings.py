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


def read_embedding_shard(path: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a shard of images' embeddings, its checksums verified.

    Returns:
        prompt_ids [n] str, seeds int64 [n], embeddings float32 [n, d].

    Raises:
        UserError: the file is corrupt, or holds something else.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        column = table.column("embedding").combine_chunks()
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
        return np.array(table.column("prompt_id").to_pylist()), table.column("seed").to_numpy(), vectors
    except (OSError, ValueError, KeyError, AttributeError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a readable table of embeddings ({line}); embed the images again") from error


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
