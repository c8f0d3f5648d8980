"""Images in parquet shards, and the cache from which a killed or grown study takes them up again.

A shard holds every seed of a run of prompts. While a shard is being drawn, what is finished is kept in
small files beside it; each file is written whole or not at all, and read with its checksums verified, so a
torn file is never believed: its images are drawn again.
"""

import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from promptroute.core.errors import UserError
from promptroute.core.image import Image, image_schema
from promptroute.io.cache import digest
from promptroute.io.files import atomic_path


class ImageRequest(NamedTuple):
    """An image that a study asks for."""

    prompt_id: str
    prompt: str
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """What decides the image, under one model: never the id, which another study may give to other words."""
        return self.prompt, self.seed


def write_shard(path: Path | str, rows: Sequence[Image]) -> None:
    """Write images as one parquet file; equal rows give equal bytes."""
    columns = {name: [getattr(row, name) for row in rows] for name in image_schema().names}
    columns["image"] = [None if png is None else {"bytes": png, "path": None} for png in columns["image"]]
    table = pa.table(columns, image_schema())
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=100,
            use_dictionary=["prompt_id", "prompt", "model", "status"],
            write_statistics=["prompt_id", "seed"],
            compression="none",  # PNG is compressed already
            write_page_checksum=True,
        )


def read_shard(path: Path | str) -> list[Image]:
    """Read what `write_shard` wrote, its checksums verified.

    Raises:
        UserError: the file is absent, torn, or not a shard of images.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        columns = {name: table.column(name).to_pylist() for name in image_schema().names}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except (OSError, ValueError, KeyError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path}: not a readable shard of images ({line}); delete it and run `dvc repro`"
        ) from error
    columns["image"] = [None if value is None else value["bytes"] for value in columns["image"]]
    return [Image(*values) for values in zip(*columns.values(), strict=True)]


def shard_paths(folder: Path | str) -> list[Path]:
    """A model's shards in order.

    Raises:
        UserError: there is none.
    """
    paths = sorted(Path(folder).glob("part-*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no shard of images; `dvc repro` makes them")
    return paths


def read_images(folder: Path | str) -> Iterator[list[Image]]:
    """A model's images, one shard at a time, in order.

    Raises:
        UserError: as `shard_paths` and `read_shard`.
    """
    for path in shard_paths(folder):
        yield read_shard(path)


def images_of(folder: Path | str, prompt_ids: Collection[str]) -> dict[str, list[Image]]:
    """One model's images of some prompts, each prompt's in order of seeds. Opens no shard that has none of them.

    Raises:
        UserError: as `shard_paths` and `read_shard`.
    """
    found: dict[str, list[Image]] = {}
    for path in shard_paths(folder):
        try:
            ids = pq.read_table(path, columns=["prompt_id"]).column("prompt_id").to_pylist()
        except (OSError, ValueError, KeyError):
            ids = list(prompt_ids)  # torn: reading it whole says so
        if not set(prompt_ids).isdisjoint(ids):
            for row in read_shard(path):
                if row.prompt_id in prompt_ids:
                    found.setdefault(row.prompt_id, []).append(row)
    return {name: sorted(rows, key=lambda row: row.seed) for name, rows in found.items()}


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a finished file; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class ImageCache:
    """Images of one model under one fingerprint: finished shards, and pieces of unfinished ones.

    Args:
        folder: where; made on the first write. Several processes may work in it at once: what one of them
            removes is held by a shard that it has finished, and a file that has gone is no error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def shard_path(self, wanted: Sequence[ImageRequest], model: str) -> Path:
        """Where the shard of just these images stands, or will."""
        return self.folder / f"shard-{digest(model, wanted)[:32]}.parquet"

    def keys(self) -> dict[tuple[str, int], Path]:
        """(prompt, seed) of each image at hand, and the file that holds it. Reads no pictures."""
        found = {}
        for path in sorted(self.folder.glob("*.parquet")):
            for key in self._keys_of(path):
                found[key] = path
        return found

    def _keys_of(self, path: Path) -> list[tuple[str, int]]:
        try:
            table = pq.read_table(path, columns=["prompt", "seed", "status"], page_checksum_verification=True)
        except FileNotFoundError:
            return []
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            return []
        columns = (table.column(name).to_pylist() for name in ("prompt", "seed", "status"))
        return [(prompt, seed) for prompt, seed, status in zip(*columns, strict=True) if status == "ok"]

    def load(
        self, keys: Collection[tuple[str, int]], places: dict[tuple[str, int], Path]
    ) -> dict[tuple[str, int], Image]:
        """The images of `keys` that can be read, out of `places` (what `keys()` gave).

        A file that turns out to be torn is removed; its images are then absent from the answer.
        """
        images = {}
        for path in sorted({places[key] for key in keys if key in places}):
            try:
                rows = read_shard(path)
            except UserError:
                path.unlink(missing_ok=True)
                continue
            images.update({(row.prompt, row.seed): row for row in rows if row.status == "ok"})
        return {key: images[key] for key in keys if key in images}

    def add(self, rows: Sequence[Image]) -> Path:
        """Keep finished images of a shard that isn't finished yet; from then on a kill doesn't lose them."""
        path = self.folder / f"piece-{uuid.uuid4().hex}.parquet"
        write_shard(path, rows)
        return path

    def tidy(self, finished: Collection[Path]) -> None:
        """Remove every file whose images all stand in the `finished` shards."""
        held = {key for path in finished for key in self._keys_of(path)}
        for path in self.folder.glob("*.parquet"):
            if path not in finished and held.issuperset(self._keys_of(path)):
                path.unlink(missing_ok=True)
