"""Embeddings of prompts and of images as parquet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from promptroute.core.errors import UserError
from promptroute.io.parquet import read_facts, read_parquet, write_parquet

if TYPE_CHECKING:
    import pandas as pd

_WHAT = "a table of embeddings"


def prompt_inputs(prompt_ids: Sequence[str], texts: Sequence[str]) -> tuple[list[str], list[str], str]:
    """Give what embeddings of prompts are made of, in a cache key and in their fact `inputs`, which is its digest."""
    return list(prompt_ids), list(texts), "truncated"  # since when their tables have that column


def embeddings_table(
    prompt_ids: Sequence[str],
    rows: np.ndarray,
    seeds: Sequence[int] | None = None,
    truncated: Sequence[int | None] | None = None,
) -> pa.Table:
    """Lay out embeddings: prompt_id, seed where they are of images, and embedding (fixed-size list of float32).

    Args:
        prompt_ids, seeds: [n] which prompt or image each row is of.
        rows: float32 [n, d].
        truncated: [n] tokens of each prompt that its encoder cut off, None where not known; a column where given.
    """
    flat = pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1))
    columns = {"prompt_id": pa.array(list(prompt_ids), pa.string())}
    if seeds is not None:
        columns["seed"] = pa.array(list(seeds), pa.int64())
    if truncated is not None:
        columns["truncated"] = pa.array(list(truncated), pa.int32())
    return pa.table({**columns, "embedding": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])})


def write_embeddings(
    path: Path | str, prompt_ids: Sequence[str], rows: np.ndarray, about: Mapping[str, str] | None = None
) -> None:
    """Write embeddings of prompts, as data/text/ENCODER.parquet; arguments as `embeddings_table`."""
    write_parquet(path, embeddings_table(prompt_ids, rows), about or {})


def read_embeddings(path: Path | str) -> "pd.DataFrame":
    """Read embeddings of prompts: columns prompt_id and embedding. `attrs` holds what the file states of itself.

    Raises:
        UserError: the file is absent or corrupt.
    """
    table = read_parquet(path, _WHAT, ["prompt_id", "embedding"])
    frame = table.replace_schema_metadata(None).to_pandas()
    frame.attrs = read_facts(path, _WHAT)
    return frame


def read_image_embeddings(folder: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read every part of a folder of image embeddings.

    Args:
        folder: data/embeddings/ENCODER/MODEL. Each part must state that it is of this model, and by the encoder of
            data/embeddings/ENCODER/prompts.parquet.

    Returns:
        prompt_ids [n] str, seeds int64 [n], embeddings float32 [n, d].

    Raises:
        UserError: the folder is absent, or a part is corrupt, of another model's images, or by another encoder.
    """
    folder = Path(folder)
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise UserError(
            f"{folder}: no embeddings of images; is the encoder listed under image_encoder? embed the images first"
        )
    prompts = folder.parent / "prompts.parquet"
    encoder = read_facts(prompts if prompts.is_file() else parts[0], _WHAT).get("component")
    tables = []
    for part in parts:
        facts = read_facts(part, _WHAT)
        if facts.get("model") != folder.name:
            raise UserError(
                f"{part}: its embeddings are of {facts.get('model', 'images of a model that is not stated')}, expected "
                f"{folder.name}; delete {folder.parent} and embed again"
            )
        if facts.get("component") != encoder:
            raise UserError(
                f"{part}: its embeddings are by another encoder than {prompts.name}; delete {folder.parent} and "
                f"embed again"
            )
        tables.append(
            read_parquet(part, _WHAT, ["prompt_id", "seed", "embedding"]).replace_schema_metadata(None)
        )
    table = pa.concat_tables(tables).combine_chunks()
    return (
        np.array(table.column("prompt_id").to_pylist()),
        table.column("seed").to_numpy(),
        rows_of(table.column("embedding")),
    )


def rows_of(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of embeddings as float32 [n, d]."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(-1, column.type.list_size), np.float32)


def read_sentences(path: Path | str, width: int) -> np.ndarray:
    """Read the sentence embeddings, the last `width` columns of what a text encoder gave, in the file's order: float32 [n, width].

    Raises:
        UserError: the file is absent or corrupt.
    """
    return rows_of(read_parquet(path, _WHAT, ["embedding"]).column("embedding"))[:, -width:]
