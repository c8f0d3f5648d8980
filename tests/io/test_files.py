"""Files are written whole or not at all, and what is read is checked."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.core.rows import Prompt
from promptroute.io.files import atomic_path, read_json, write_json
from promptroute.io.tables import read_table, write_table

ROWS = pd.DataFrame(
    {"prompt_id": ["A1", "A2"], "prompt": ["a dog", "None"], "set": ["A", "A"], "count": [1, 2]}
)


def test_table_roundtrip(tmp_path: Path) -> None:
    write_table(tmp_path / "deep" / "p.parquet", ROWS, Prompt, about={"sources": "x"})
    back = read_table(tmp_path / "deep" / "p.parquet", Prompt)
    pd.testing.assert_frame_equal(back, ROWS, check_dtype=False)
    assert back.attrs == {"sources": "x"}


def test_flipped_bits(tmp_path: Path) -> None:
    """Parquet's checksums leave out what a file says about itself, and text that is no UTF-8 ends in one line too."""
    path = tmp_path / "p.parquet"
    write_table(path, ROWS, Prompt, about={"sources": "x" * 40, "order": "y" * 40})
    whole = path.read_bytes()
    for place in range(len(whole)):
        if whole[place : place + 1] in (b"x", b"y") or place % 7 == 0:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
            try:
                assert read_table(path, Prompt).attrs.get("sources", "x" * 40) == "x" * 40
            except UserError as error:
                assert "p.parquet" in str(error)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, ROWS, Prompt)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_error_leaves_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").touch()
    with atomic_path(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "fresh").touch()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["fresh"]


def test_unknown_columns_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="extra"):
        write_table(tmp_path / "p", ROWS.assign(extra=1), Prompt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"corrupt", "not a readable parquet file")]
)
def test_bad_table(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "p.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"p.parquet: {message}.*make it"):
        read_table(path, Prompt)


def test_json_is_plain_and_rounded(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a.json",
        {"x": np.float64(1 / 3), "y": (np.int64(2), float("nan")), "z": {"é": True}},
        digits=4,
    )
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 0.3333, "y": [2, None], "z": {"é": True}}
    assert read_json(tmp_path / "a.json")["x"] == 0.3333


def test_seventeen_digits_keep_every_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=100).tolist()
    write_json(tmp_path / "a.json", values, digits=17)
    assert read_json(tmp_path / "a.json") == values


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), ("{", "not readable as JSON")])
def test_bad_json(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_json(path)
