"""Shards of images: what others read, what a corrupt file does, and what the cache keeps."""

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
    images_of,
    link_or_copy,
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


class TestShard:
    def test_comes_back(self, tmp_path: Path) -> None:
        rows = [row("a dog", 0), row("a dog", 1), FAILED]
        folder = tmp_path / "tiny"
        write_shard(folder / "part-00000.parquet", rows)
        write_shard(tmp_path / "again.parquet", rows)
        assert read_shard(folder / "part-00000.parquet") == rows
        assert (folder / "part-00000.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
        assert images_of(folder, ["P1"]) == {"P1": rows} and images_of(folder, ["P2"]) == {}

    def test_datasets_and_pandas_open_it(self, tmp_path: Path) -> None:
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
        assert list(frame["seed"]) == [5, 7] and frame["image"][0]["bytes"] == png(5)
        assert frame["image"][1] is None

    @pytest.mark.parametrize("where", ["cut", "flipped"])
    def test_corrupt_is_not_believed(self, tmp_path: Path, where: str) -> None:
        path = tmp_path / "part-00000.parquet"
        write_shard(path, [row("a dog", 0)])
        spoil(path, where)
        with pytest.raises(UserError, match=r"part-00000.parquet: not a shard .* delete it"):
            read_shard(path)

    def test_not_a_shard(self, tmp_path: Path) -> None:
        pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "x.parquet")
        with pytest.raises(UserError, match="not a shard of images that can be read"):
            read_shard(tmp_path / "x.parquet")
        with pytest.raises(UserError, match="no such file"):
            read_shard(tmp_path / "y.parquet")
        with pytest.raises(UserError, match="no shard of images; generate them first"):
            shard_paths(tmp_path)

    def test_another_model_is_refused(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "small" / "part-00000.parquet", [row("a dog", 0)])
        with pytest.raises(UserError, match=r"part-00000.parquet: its images are by tiny, expected small"):
            shard_paths(tmp_path / "small")

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "tiny" / "part-00000.parquet", [row("a dog", 0)], "a")
        write_shard(tmp_path / "tiny" / "part-00001.parquet", [row("a cat", 0)], "b")
        with pytest.raises(
            UserError, match=r"part-00001.parquet: .* with other settings than those of part-00000"
        ):
            shard_paths(tmp_path / "tiny")

    @pytest.mark.parametrize(
        ("text", "seeds", "message"),
        [
            ("a cat", [0, 1], "part-00000.parquet: holds prompt P1 'a dog', seed 0, where the study asks for prompt P1 'a cat'"),
            ("a dog", [5, 6], "holds prompt P1 'a dog', seed 0, where the study asks for prompt P1 'a dog', seed 5"),
            ("a dog", [0], "holds prompt P1 'a dog', seed 1, where the study asks for no more images"),
            ("a dog", [0, 1, 2], "tiny: 2 images, but the study asks for 3"),
        ],
    )  # fmt: skip
    def test_another_study_is_refused(
        self, tmp_path: Path, text: str, seeds: list[int], message: str
    ) -> None:
        write_shard(tmp_path / "tiny" / "part-00000.parquet", [row("a dog", 0), row("a dog", 1)])
        shard_paths(tmp_path / "tiny", [ImageRequest("P1", "a dog", seed) for seed in (0, 1)])
        with pytest.raises(UserError, match=message):
            shard_paths(tmp_path / "tiny", [ImageRequest("P1", text, seed) for seed in seeds])


def spoil(path: Path, how: str) -> None:
    """Cut a file off, or flip a bit of an image in it."""
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[-20:]
    else:
        content[content.index(b"IDAT") + 6] ^= 1
    path.write_bytes(content)


class TestCache:
    def test_finds_by_content(self, tmp_path: Path) -> None:
        cache = ImageCache(tmp_path / "cache", "a")
        assert cache.keys() == {}
        cache.add([row("a dog", 0, "P1"), row("a dog", 1, "P1")])
        cache.add([row("a cat", 0, "P2"), FAILED])
        places = cache.keys()
        assert set(places) == {("a dog", 0), ("a dog", 1), ("a cat", 0)}, "a failed image is tried again"
        found = cache.load([("a dog", 1), ("a cat", 0), ("a cow", 0)], places)
        assert found == {("a dog", 1): row("a dog", 1), ("a cat", 0): row("a cat", 0, "P2")}

    def test_corrupt_piece_is_dropped(self, tmp_path: Path) -> None:
        cache = ImageCache(tmp_path)
        whole, corrupt = cache.add([row("a dog", 0)]), cache.add([row("a cat", 0)])
        places = cache.keys()
        spoil(corrupt, "flipped")
        assert set(cache.load(places, places)) == {("a dog", 0)}
        assert list(tmp_path.iterdir()) == [whole]
        spoil(whole, "cut")
        assert cache.keys() == {} and not list(tmp_path.iterdir())

    def test_another_generators_piece_is_dropped(self, tmp_path: Path) -> None:
        ImageCache(tmp_path, "a").add([row("a dog", 0)])
        assert ImageCache(tmp_path, "b").keys() == {} and not list(tmp_path.iterdir())

    def test_tidy_keeps_unfinished(self, tmp_path: Path) -> None:
        cache = ImageCache(tmp_path)
        cache.add([row("a dog", 0)])
        other = cache.add([row("a dog", 1), row("another study", 0)])
        shard = tmp_path / "shard-1.parquet"
        with cache.in_use() as finished:
            write_shard(shard, [row("a dog", 0), row("a dog", 1)])
            finished.append(shard)
        assert sorted(tmp_path.glob("*.parquet")) == sorted([other, shard])

    def test_tidy_spares_running_work(self, tmp_path: Path) -> None:
        ours, theirs = ImageCache(tmp_path), ImageCache(tmp_path)
        with ours.in_use() as finished:
            mine = ours.add([row("a dog", 0)])
            with theirs.in_use() as others:
                shard = tmp_path / "shard-1.parquet"
                write_shard(shard, [row("a dog", 0)])
                others.append(shard)
            assert mine.exists(), "their shard has its images, but we still use it"
            finished.append(shard)
        assert not mine.exists(), "the last one tidies"

    def test_shard_path(self, tmp_path: Path) -> None:
        cache = ImageCache(tmp_path)
        base = [ImageRequest("P1", "a dog", 0), ImageRequest("P1", "a dog", 1)]
        others = [
            base[:1],
            base[::-1],
            [base[0], ImageRequest("P1", "a cat", 1)],
            [base[0], ImageRequest("P2", "a dog", 1)],
        ]
        paths = [cache.shard_path(base, "tiny"), cache.shard_path(base, "small")]
        paths += [cache.shard_path(requests, "tiny") for requests in others]
        assert all(a != b for a, b in itertools.combinations(paths, 2))
        assert cache.shard_path(list(base), "tiny") == paths[0]


def test_link_or_copy(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
