"""Shards of images: what others read, what a torn file does, and what the cache keeps."""

import io
import itertools
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image as Pillow

from promptroute.core.errors import UserError
from promptroute.core.image import Image
from promptroute.io.images import (
    ImageCache,
    ImageRequest,
    link_or_copy,
    read_images,
    read_shard,
    shard_paths,
    write_shard,
)


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (4, 3), (shade, 0, 0)).save(file, format="PNG")
    return file.getvalue()


def row(prompt: str, seed: int, prompt_id: str = "P1") -> Image:
    return Image(prompt_id, prompt, "tiny", seed, "ok", None, 4, 3, png(seed))


FAILED = Image("P1", "a dog", "tiny", 7, "failed", "it broke", None, None, None)


def test_a_shard_comes_back_as_it_was_and_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    rows = [row("a dog", 0), row("a dog", 1), FAILED]
    write_shard(tmp_path / "part-00000.parquet", rows)
    write_shard(tmp_path / "again.parquet", rows)
    assert read_shard(tmp_path / "part-00000.parquet") == rows
    assert (tmp_path / "part-00000.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    assert list(read_images(tmp_path)) == [rows]


def test_datasets_and_pandas_open_a_shard_as_it_is(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "part-00000.parquet"
    write_shard(path, [row("a dog", 5), FAILED])
    loaded = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))[
        "train"
    ]
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded[0]["image"].size == (4, 3) and loaded[0]["image"].getpixel((0, 0)) == (5, 0, 0)
    assert loaded[1]["image"] is None and loaded[1]["reason"] == "it broke"
    frame = pd.read_parquet(path)
    assert (
        list(frame["seed"]) == [5, 7] and frame["image"][0]["bytes"] == png(5) and frame["image"][1] is None
    )


@pytest.mark.parametrize("where", ["cut", "flipped"])
def test_a_torn_shard_is_not_believed(tmp_path: Path, where: str) -> None:
    path = tmp_path / "part-00000.parquet"
    write_shard(path, [row("a dog", 0)])
    content = bytearray(path.read_bytes())
    if where == "cut":
        del content[-20:]
    else:
        content[content.index(b"IDAT") + 6] ^= 1  # one bit of a picture
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"part-00000.parquet: not a readable shard .* delete it"):
        read_shard(path)


def test_a_file_that_is_no_shard_or_a_folder_without_any_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="not a readable shard"):
        read_shard(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no such file"):
        read_shard(tmp_path / "y.parquet")
    with pytest.raises(UserError, match="no shard of images; `dvc repro`"):
        shard_paths(tmp_path)


def test_the_area_finds_images_by_what_was_drawn_not_by_id(tmp_path: Path) -> None:
    area = ImageCache(tmp_path / "area")
    assert area.keys() == {}
    area.add([row("a dog", 0, "P1"), row("a dog", 1, "P1")])
    area.add([row("a cat", 0, "P2"), FAILED])
    places = area.keys()
    assert set(places) == {("a dog", 0), ("a dog", 1), ("a cat", 0)}, "a failed image is tried again"
    found = area.load([("a dog", 1), ("a cat", 0), ("a cow", 0)], places)
    assert found == {("a dog", 1): row("a dog", 1), ("a cat", 0): row("a cat", 0, "P2")}


def test_a_torn_piece_is_dropped_and_its_images_are_lacking(tmp_path: Path) -> None:
    area = ImageCache(tmp_path)
    whole, torn = area.add([row("a dog", 0)]), area.add([row("a cat", 0)])
    places = area.keys()
    content = bytearray(torn.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    torn.write_bytes(content)
    assert set(area.load(places, places)) == {("a dog", 0)}
    assert list(tmp_path.iterdir()) == [whole]
    whole.write_bytes(whole.read_bytes()[:-9])
    assert area.keys() == {} and not list(tmp_path.iterdir())


def test_tidying_removes_only_what_finished_shards_hold(tmp_path: Path) -> None:
    area = ImageCache(tmp_path)
    area.add([row("a dog", 0)])
    other = area.add([row("a dog", 1), row("another study", 0)])
    shard = tmp_path / "shard-1.parquet"
    write_shard(shard, [row("a dog", 0), row("a dog", 1)])
    area.tidy([shard])
    assert sorted(tmp_path.iterdir()) == sorted([other, shard])


def test_a_shards_place_depends_on_every_image_and_the_model(tmp_path: Path) -> None:
    area = ImageCache(tmp_path)
    base = [ImageRequest("P1", "a dog", 0), ImageRequest("P1", "a dog", 1)]
    others = [
        base[:1],
        base[::-1],
        [base[0], ImageRequest("P1", "a cat", 1)],
        [base[0], ImageRequest("P2", "a dog", 1)],
    ]
    paths = [area.shard_path(base, "tiny"), area.shard_path(base, "small")]
    paths += [area.shard_path(wanted, "tiny") for wanted in others]
    assert all(a != b for a, b in itertools.combinations(paths, 2))
    assert area.shard_path(list(base), "tiny") == paths[0]


def test_link_or_copy_makes_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
