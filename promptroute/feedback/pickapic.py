"""A local copy of Pick-a-Pic: images and captions by their uid, streamed.

The data set was removed from the hub, so any copy will do: a folder of parquet files with its columns, or a folder of
images named UID.jpg or UID.png with a table of captions.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from promptroute.core.errors import UserError
from promptroute.feedback.checkpoint import refuse_pointer

_UIDS = ("image_0_uid", "image_1_uid")
_BYTES = ("jpg_0", "jpg_1")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, order=True)
class Place:
    """Where an image lies: sorts in an order in which it is quick to read.

    Attributes:
        file: of the image, or of the row.
        group, row: of a parquet file.
        side: which of the row's two images.
        caption: the prompt.
    """

    file: str
    group: int
    row: int
    side: int
    caption: str


class PickAPic(Protocol):
    """A copy of the data set."""

    def places(self, uids: Collection[str]) -> Mapping[str, Place]:
        """Find those of the images that are there; of a uid in several rows, the last."""
        ...

    def read(self, places: Sequence[Place]) -> Iterator[bytes]:
        """Yield the image files' bytes, in the given order; quick where that is sorted."""
        ...


def open_pickapic(folder: Path | str, captions: Path | str | None = None) -> PickAPic:
    """Open a copy.

    Args:
        folder: of parquet files, or of images.
        captions: for a folder of images: a .csv or .parquet table with columns uid and caption.

    Raises:
        UserError: the folder is absent or empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a local copy of Pick-a-Pic")
    if captions is not None:
        return ImageFolder(folder, Path(captions))
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise UserError(
            f"{folder}: holds no .parquet file; give Pick-a-Pic's folder, or images with a table of captions"
        )
    return ParquetFolder(files)


@dataclass(frozen=True)
class ParquetFolder:
    """Pick-a-Pic as it was published: parquet files with two images a row."""

    files: Sequence[Path]

    def places(self, uids: Collection[str]) -> dict[str, Place]:
        """Find images by their uid, reading uids and captions alone."""
        wanted, found = set(uids), {}
        for path in self.files:
            with _opened(path) as file:
                if absent := [
                    name for name in (*_UIDS, *_BYTES, "caption") if name not in file.schema_arrow.names
                ]:
                    raise UserError(f"{path}: has no column {absent[0]}, so it is not of Pick-a-Pic")
                for group in range(file.num_row_groups):
                    columns = _columns(file, path, group, [*_UIDS, "caption"])
                    pairs = zip(columns[_UIDS[0]], columns[_UIDS[1]], strict=True)
                    for row, pair in enumerate(pairs):
                        for side, uid in enumerate(pair):
                            if uid in wanted:
                                found[uid] = Place(str(path), group, row, side, columns["caption"][row] or "")
        return found

    def read(self, places: Sequence[Place]) -> Iterator[bytes]:
        """Yield images' bytes; a group of rows is read once for all its neighbours."""
        held: tuple[str, int] | None = None
        columns: dict[str, list[Any]] = {}
        for place in places:
            if held != (place.file, place.group):
                with _opened(Path(place.file)) as file:
                    columns = _columns(file, Path(place.file), place.group, list(_BYTES))
                held = (place.file, place.group)
            value = columns[_BYTES[place.side]][place.row]
            if not value:
                raise UserError(
                    f"{place.file}: {_BYTES[place.side]} of row {place.row} in group {place.group} is empty"
                )
            yield value["bytes"] if isinstance(value, dict) else value


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    refuse_pointer(path)
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a parquet file that can be read ({error}); fetch it again") from error


def _columns(file: Any, path: Path, group: int, names: list[str]) -> dict[str, list[Any]]:
    import pyarrow as pa

    try:
        return file.read_row_group(group, columns=names).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: group {group} can't be read ({error}); fetch the file again") from error


@dataclass(frozen=True)
class ImageFolder:
    """Images named by their uid, and a table of captions."""

    folder: Path
    captions: Path

    def places(self, uids: Collection[str]) -> dict[str, Place]:
        """Find images by their uid."""
        import pandas as pd

        try:
            read = pd.read_parquet if self.captions.suffix == ".parquet" else pd.read_csv
            table = read(self.captions)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.captions}: not a table that can be read ({error}); give a .csv or .parquet"
            ) from error
        if absent := [name for name in ("uid", "caption") if name not in table.columns]:
            raise UserError(f"{self.captions}: has no column {absent[0]}; expected uid and caption")
        captions = dict(zip(table["uid"].astype(str), table["caption"].fillna("").astype(str), strict=True))
        files = {
            path.stem: path for path in sorted(self.folder.iterdir()) if path.suffix.lower() in _SUFFIXES
        }
        return {
            uid: Place(str(files[uid]), 0, 0, 0, captions[uid])
            for uid in uids
            if uid in files and uid in captions
        }

    def read(self, places: Sequence[Place]) -> Iterator[bytes]:
        """Yield images' bytes."""
        for place in places:
            yield Path(place.file).read_bytes()
