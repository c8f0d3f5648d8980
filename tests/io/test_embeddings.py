"""Embeddings say whose they are, and readers refuse another model's or encoder's."""

from pathlib import Path

import numpy as np
import pytest

from promptroute.core.errors import UserError
from promptroute.io.embeddings import (
    embeddings_table,
    read_embeddings,
    read_image_embeddings,
    write_embeddings,
)
from promptroute.io.parquet import write_parquet

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def images(folder: Path, model: str = "sd", encoder: str = "e", part: int = 0) -> None:
    table = embeddings_table(["P1", "P1", "P2"], ROWS, [0, 1, 0])
    write_parquet(folder / f"part-{part:05d}.parquet", table, {"model": model, "component": encoder})


def test_comes_back(tmp_path: Path) -> None:
    images(tmp_path / "clip" / "sd")
    write_embeddings(tmp_path / "clip" / "prompts.parquet", ["P1", "P2"], ROWS[:2], {"component": "e"})
    ids, seeds, rows = read_image_embeddings(tmp_path / "clip" / "sd")
    assert list(ids) == ["P1", "P1", "P2"] and list(seeds) == [0, 1, 0]
    np.testing.assert_array_equal(rows, ROWS)
    prompts = read_embeddings(tmp_path / "clip" / "prompts.parquet")
    np.testing.assert_array_equal(np.stack(list(prompts["embedding"])), ROWS[:2])
    assert list(prompts.columns) == ["prompt_id", "embedding"] and prompts.attrs["component"] == "e"


def test_another_model_is_refused(tmp_path: Path) -> None:
    images(tmp_path / "clip" / "amused", model="sd")
    with pytest.raises(UserError, match=r"part-00000.parquet: its embeddings are of sd, expected amused"):
        read_image_embeddings(tmp_path / "clip" / "amused")


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    images(tmp_path / "clip" / "sd")
    images(tmp_path / "clip" / "sd", encoder="f", part=1)
    with pytest.raises(UserError, match=r"part-00001.parquet: its embeddings are by another encoder"):
        read_image_embeddings(tmp_path / "clip" / "sd")
    (tmp_path / "clip" / "sd" / "part-00001.parquet").unlink()
    write_embeddings(tmp_path / "clip" / "prompts.parquet", ["P1"], ROWS[:1], {"component": "f"})
    with pytest.raises(UserError, match=r"by another encoder than prompts.parquet"):
        read_image_embeddings(tmp_path / "clip" / "sd")


@pytest.mark.parametrize("name", ["prompts.parquet", "sd/part-00000.parquet"])
def test_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    images(tmp_path / "sd")
    write_embeddings(tmp_path / "prompts.parquet", ["P1"], ROWS[2:], {"component": "e"})
    content = bytearray((tmp_path / name).read_bytes())
    content[content.index(ROWS[2].tobytes())] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="not a table of embeddings that can be read"):
        read_embeddings(tmp_path / name) if name == "prompts.parquet" else read_image_embeddings(
            tmp_path / "sd"
        )
