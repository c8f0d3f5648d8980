"""Images in parquet shards, and the cache from which a killed or grown study takes them up again.

A shard holds every seed of a run of prompts. While a shard is being generated, what is finished is kept in
small files beside it; each file is written whole or not at all, says which generator it is of, and is read with its
checksums verified, so that a corrupt file, or another generator's, is never believed: its images are generated again.
"""

import fcntl
import itertools
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from promptroute.core.errors import NotMade, UserError
from promptroute.core.image import Image, image_schema
from promptroute.core.text import short
from promptroute.io.cache import cache_path, digest
from promptroute.io.parquet import read_facts, read_parquet, write_parquet

_WHAT = "a shard of images"


class ImageRequest(NamedTuple):
    """An image that a study asks for."""

    prompt_id: str
    prompt: str
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """Return what decides the image, under one model: never the id, which another study may give to other words."""
        return self.prompt, self.seed


def write_shard(path: Path | str, rows: Sequence[Image], component: str = "") -> None:
    """Write images of one model as a parquet file; equal rows give equal bytes.

    `component`: digest of the generator's fingerprint.
    """
    columns = {name: [getattr(row, name) for row in rows] for name in image_schema().names}
    columns["image"] = [None if png is None else {"bytes": png, "path": None} for png in columns["image"]]
    models = {row.model for row in rows}
    write_parquet(
        path,
        pa.table(columns, image_schema()),
        {"model": ", ".join(sorted(models)), "component": component},
        row_group_size=100,
        use_dictionary=["prompt_id", "prompt", "model", "status"],
        write_statistics=["prompt_id", "seed"],
        compression="none",  # PNG is compressed already
    )


def read_shard(path: Path | str, component: str | None = None) -> list[Image]:
    """Read what `write_shard` wrote, its checksums verified.

    `component`: digest of the generator's fingerprint that the file must state; None: any.

    Raises:
        UserError: the file is absent, corrupt, not a shard of images, or another generator's.
    """
    expected = None if component is None else {"component": component}
    table = read_parquet(path, _WHAT, image_schema().names, expected)
    columns = {name: table.column(name).to_pylist() for name in image_schema().names}
    columns["image"] = [None if value is None else value["bytes"] for value in columns["image"]]
    return [Image(*values) for values in zip(*columns.values(), strict=True)]


def shard_paths(folder: Path | str, asked: Sequence[ImageRequest] | None = None) -> list[Path]:
    """List a model's shards in order, once it is certain that they are its own.

    Args:
        folder: data/images/MODEL.
        asked: the images that they must be of, in order; None: any.

    Raises:
        UserError: there is none, or a file is no shard, another model's, of other settings than the rest, or of
            other images than those that were asked for.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("part-*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no shard of images; generate them first")
    stated = [read_facts(path, _WHAT) for path in paths]
    for path, facts in zip(paths, stated, strict=True):
        if facts.get("model") != folder.name:
            raise NotMade(
                f"{path}: its images are by {facts.get('model', 'a model that is not stated')}, expected "
                f"{folder.name}; delete it and generate them again"
            )
        if facts.get("component") != stated[0].get("component"):
            raise NotMade(
                f"{path}: its images are by {folder.name} with other settings than those of {paths[0].name}; delete "
                f"{folder} and generate them again"
            )
    if asked is not None:
        _check_asked(paths, asked)
    return paths


def _check_asked(paths: Sequence[Path], asked: Sequence[ImageRequest]) -> None:
    """Refuse shards of another study: its ids may be the same, with other texts or seeds."""
    start = 0
    for path in paths:
        table = read_parquet(path, _WHAT, list(ImageRequest._fields))
        held = zip(*(table.column(name).to_pylist() for name in ImageRequest._fields), strict=True)
        for found, request in itertools.zip_longest(held, asked[start : start + len(table)]):
            if found != request:
                raise NotMade(
                    f"{path}: holds {_said(found)}, where the study asks for {_said(request)}, so it is another study's; "
                    f"generate the images again"
                )
        start += len(table)
    if start < len(asked):
        raise NotMade(
            f"{paths[-1].parent}: {start} images, but the study asks for {len(asked)}; generate them again"
        )


def _said(request: tuple[str, str, int] | None) -> str:
    return (
        "no more images" if request is None else f"prompt {request[0]} {short(request[1])}, seed {request[2]}"
    )


def images_of(folder: Path | str, prompt_ids: Collection[str]) -> dict[str, list[Image]]:
    """Return a model's images of some prompts, each prompt's in order of seeds; reads no shard that has none of them.

    Raises:
        UserError: as `shard_paths` and `read_shard`.
    """
    found: dict[str, list[Image]] = {}
    for path in shard_paths(folder):
        ids = read_parquet(path, _WHAT, ["prompt_id"]).column("prompt_id").to_pylist()
        if not set(prompt_ids).isdisjoint(ids):
            for row in read_shard(path):
                if row.prompt_id in prompt_ids:
                    found.setdefault(row.prompt_id, []).append(row)
    return {name: sorted(rows, key=lambda row: row.seed) for name, rows in found.items()}


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished file a second name; copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@dataclass(frozen=True)
class ImageCache:
    """Images of one generator: finished shards, and pieces of unfinished ones.

    Several processes may work in it at once: none removes a file while another works.

    Attributes:
        folder: where; made on the first write.
        component: digest of the generator's fingerprint, which every file of it states.
    """

    folder: Path
    component: str = ""

    @classmethod
    def of(cls, fingerprint: object) -> "ImageCache":
        """Return the cache of the generator with this fingerprint."""
        return cls(cache_path("images", fingerprint), digest(fingerprint))

    def shard_path(self, requests: Sequence[ImageRequest], model: str) -> Path:
        """Return where the shard of just these images is, or will be."""
        return self.folder / f"shard-{digest(model, requests)[:32]}.parquet"

    def read(self, path: Path) -> list[Image]:
        """Return the rows of a file of it; none where the file is absent, corrupt or another's."""
        try:
            return read_shard(path, self.component)
        except UserError:
            return []

    def keys(self) -> dict[tuple[str, int], Path]:
        """Return (prompt, seed) of each image that it has, and the file that holds it. Reads no images."""
        return {key: path for path in sorted(self.folder.glob("*.parquet")) for key in self._keys_of(path)}

    def _keys_of(self, path: Path) -> list[tuple[str, int]]:
        try:
            columns = ["prompt", "seed", "status", "truncated"]  # files of an older format lack the last
            table = read_parquet(path, _WHAT, columns, {"component": self.component})
        except UserError:
            path.unlink(missing_ok=True)
            return []
        rows = zip(*(table.column(name).to_pylist() for name in columns[:3]), strict=True)
        return [(prompt, seed) for prompt, seed, status in rows if status == "ok"]

    def load(
        self, keys: Collection[tuple[str, int]], places: dict[tuple[str, int], Path]
    ) -> dict[tuple[str, int], Image]:
        """Return the images of `keys` that can be read, out of `places` (what `keys()` gave).

        A file that turns out to be corrupt is removed; its images are then absent from the answer.
        """
        images = {}
        for path in sorted({places[key] for key in keys if key in places}):
            rows = self.read(path)
            if not rows:
                path.unlink(missing_ok=True)
            images.update({row.key: row for row in rows if row.status == "ok"})
        return {key: images[key] for key in keys if key in images}

    def add(self, rows: Sequence[Image]) -> Path:
        """Keep finished images of a shard that isn't finished yet; from then on a kill doesn't lose them."""
        path = self.folder / f"piece-{uuid.uuid4().hex}.parquet"
        write_shard(path, rows, self.component)
        return path

    @contextmanager
    def in_use(self) -> Iterator[list[Path]]:
        """Keep every file in place meanwhile; afterwards remove what finished shards have made superfluous.

        Yields:
            A list to put finished shards into. Where another process still uses the cache, nothing is removed; the
            next run does it.
        """
        finished: list[Path] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        # The kernel releases the lock whatever happens to the process.
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield finished
        with open(self.folder / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._tidy(finished)

    def _tidy(self, finished: Collection[Path]) -> None:
        """Remove every file whose images are all in the `finished` shards."""
        held = {key for path in finished for key in self._keys_of(path)}
        for path in self.folder.glob("*.parquet"):
            if path not in finished and held.issuperset(self._keys_of(path)):
                path.unlink(missing_ok=True)
