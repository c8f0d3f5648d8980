"""RichHF-18K joined with Pick-a-Pic: parquet shards to train and judge by.

Source: google-research-datasets/richhf-18k. Its artifact_score is our plausibility, its misalignment_score our alignment;
all four are 0..1, higher is better. In its labels 1 is a word that the image shows, 0 one that it misses.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain, Section
from promptroute.feedback.examples import Batch, make_batch
from promptroute.feedback.pickapic import PickAPic, Place
from promptroute.feedback.predictor import resized
from promptroute.feedback.settings import NetworkSettings
from promptroute.feedback.texts import WordTokens, prompt_words
from promptroute.feedback.tfrecord import Feature, read_records

SCORE_FIELDS = {
    "plausibility": "artifact_score",
    "alignment": "misalignment_score",
    "aesthetics": "aesthetics_score",
    "overall": "overall_score",
}
MAP_FIELDS = {"implausibility": "artifact_map", "misalignment": "misalignment_map"}
MAP_SIDE = 512
SHARD = 256
"""Records of a shard."""
_WHAT = "a shard of RichHF"


@dataclass(frozen=True)
class Record:
    """A record of RichHF.

    Attributes:
        number: in its file, from 0.
        uid: of the image in Pick-a-Pic.
        scores: name → 0..1.
        maps: name → an image file's bytes.
        aligned: a digit for each word: 1 where the image shows it.
    """

    number: int
    uid: str
    scores: dict[str, float]
    maps: dict[str, bytes]
    aligned: list[int]


def read_richhf(path: Path | str) -> Iterator[Record]:
    """Yield the records of a TFRecord file.

    Raises:
        UserError: as `read_records`; or a field is missing, of another type, or out of its range: names file and record.
    """
    for number, fields in enumerate(read_records(path)):
        where = f"{path}: record {number}"
        scores = {name: float(_one(fields, field, float, where)) for name, field in SCORE_FIELDS.items()}
        for name, value in scores.items():
            if not 0 <= value <= 1:  # NaN isn't either
                raise UserError(f"{where}: {SCORE_FIELDS[name]} is {value:g}; expected 0 to 1")
        maps = {name: bytes(_one(fields, field, bytes, where)) for name, field in MAP_FIELDS.items()}
        for name, data in maps.items():
            _check_map(data, f"{where}: {MAP_FIELDS[name]}")
        label = _text(
            _one(fields, "prompt_misalignment_label", bytes, where), f"{where}: prompt_misalignment_label"
        )
        if not set(label.split()) <= {"0", "1"}:
            raise UserError(f"{where}: prompt_misalignment_label is {label[:40]!r}; expected digits 0 and 1")
        filename = _text(_one(fields, "filename", bytes, where), f"{where}: filename")
        uid = filename.rpartition("/")[2].partition(".")[0]
        if not uid:
            raise UserError(f"{where}: filename is {filename!r}; expected a path that ends in UID.png")
        yield Record(number, uid, scores, maps, [int(digit) for digit in label.split()])


def _one(fields: dict[str, Feature], name: str, kind: type, where: str) -> Any:
    values = fields.get(name)
    if values is None:
        raise UserError(f"{where} has no {name}; expected a record of RichHF-18K")
    if len(values) != 1 or not isinstance(values[0], kind):
        raise UserError(f"{where}: {name} holds {len(values)} value(s); expected one {kind.__name__}")
    return values[0]


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text") from error


def _check_map(data: bytes, where: str) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UserError(f"{where} is no image that can be read") from error
    if size != (MAP_SIDE, MAP_SIDE):
        raise UserError(f"{where} is {size[0]} × {size[1]} pixels; expected {MAP_SIDE} × {MAP_SIDE}")


def mismatch(words: Sequence[str], record: Record) -> str | None:
    """Say why a record's labels can't be put on its prompt's words; None where they can."""
    if not words:
        return "the prompt holds no word"
    if len(words) != len(record.aligned):
        return f"{len(words)} words, but {len(record.aligned)} labels"
    return None


def build_shards(
    records: Path | str, images: PickAPic, folder: Path | str, split: str, allow_missing: bool = False
) -> dict[str, int]:
    """Join a file of RichHF with its images, and write shards `SPLIT-00000.parquet`; those that are there stay.

    A record whose labels don't fit its prompt is kept for its scores and maps, with the reason.

    Args:
        records: a TFRecord file.
        images: a copy of Pick-a-Pic.
        folder: of the shards.
        split: train, dev or test; begins the shards' names.
        allow_missing: leave records out whose image isn't in the copy; else they are refused.

    Returns:
        Counts: `records`, `missing` images, `mismatched` labels.

    Raises:
        UserError: as `read_richhf`; an image is missing, or no image: names file and record.
    """
    from promptroute.io.files import sha256

    found = list(read_richhf(records))
    places = images.places({record.uid for record in found})
    lost = [record for record in found if record.uid not in places]
    if lost and not allow_missing:
        raise UserError(
            f"{records}: record {lost[0].number} has the image {lost[0].uid}, which the copy of Pick-a-Pic lacks "
            f"({len(lost)} of {len(found)} such records); complete it, or allow missing images"
        )
    ordered = sorted(
        (record for record in found if record.uid in places), key=lambda one: (places[one.uid], one.number)
    )
    about = {"records": sha256(records), "split": split}
    counts = Counter({"records": len(ordered), "missing": len(lost), "mismatched": 0})
    folder = Path(folder)
    for start in range(0, len(ordered), SHARD):
        part = ordered[start : start + SHARD]
        counts["mismatched"] += sum(
            mismatch(prompt_words(places[one.uid].caption), one) is not None for one in part
        )
        path = folder / f"{split}-{start // SHARD:05d}.parquet"
        key = about | {"rows": json.dumps([one.number for one in part])}
        if not _is_done(path, key):
            _write_shard(path, part, [places[one.uid] for one in part], images, key, str(records))
    return dict(counts)


def _is_done(path: Path, about: dict[str, str]) -> bool:
    from promptroute.io.parquet import read_facts

    try:
        facts = read_facts(path, _WHAT)
    except (UserError, OSError):
        return False
    return all(facts.get(name) == value for name, value in about.items())


def _write_shard(
    path: Path,
    part: Sequence[Record],
    places: Sequence[Place],
    images: PickAPic,
    about: dict[str, str],
    source: str,
) -> None:
    rows = []
    for record, place, data in zip(part, places, images.read(places), strict=True):
        _decode(data, f"{source}: record {record.number}: the image {record.uid} in {place.file}")
        words = prompt_words(place.caption)
        reason = mismatch(words, record)
        rows.append(
            {
                "record": record.number,
                "uid": record.uid,
                "prompt": place.caption,
                "words": words,
                "missed": None if reason else [digit == 0 for digit in record.aligned],
                "reason": reason,
                **record.scores,
                "image": {"bytes": data, "path": None},
                **{name: {"bytes": value, "path": None} for name, value in record.maps.items()},
            }
        )
    write_rows(path, rows, about)


def write_rows(path: Path, rows: Sequence[Section], about: Mapping[str, str]) -> None:
    """Write labelled images as a shard.

    Args:
        path: where to.
        rows: a mapping for each, with `record` (a number), `uid`, `prompt`, `words`, `missed` and `reason` (why it is None),
            `image`; scores and maps, None where there is none. Files are given as {"bytes": …, "path": None}.
        about: facts about the file.
    """
    import pyarrow as pa

    from promptroute.io.parquet import write_parquet

    file = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds: Plain = {"record": pa.int64(), "uid": pa.string(), "prompt": pa.string()}
    kinds |= {"words": pa.list_(pa.string()), "missed": pa.list_(pa.bool_()), "reason": pa.string()}
    kinds |= dict.fromkeys(SCORE_FIELDS, pa.float32()) | {"image": file} | dict.fromkeys(MAP_FIELDS, file)
    table = pa.Table.from_pylist(list(rows), pa.schema(list(kinds.items())))
    write_parquet(path, table, about, row_group_size=8, compression="none")


def _decode(data: bytes, where: str) -> Any:
    """Decode an image file.

    Raises:
        UserError: it is none; begins with `where`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{where} can't be decoded ({error}); replace it") from error
    return image


def _read_row(path: Path, row: int, names: list[str]) -> Plain:
    """Read a row of a shard, its checksums verified.

    Raises:
        UserError: the shard is corrupt.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            size = file.metadata.row_group(0).num_rows
            rows = file.read_row_group(row // size, columns=names).slice(row % size, 1).to_pylist()
            return rows[0]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: row {row} can't be read ({error}); build the shard again") from error


class ShardExamples:
    """Examples of shards, decoded as they are asked for.

    Args:
        folder: that `build_shards` wrote.
        split: whose shards.
        tokens: the tokenizer.
        settings: the network's.

    Raises:
        UserError: there is no shard, or one can't be read.
    """

    def __init__(self, folder: Path | str, split: str, tokens: WordTokens, settings: NetworkSettings) -> None:
        from promptroute.io.parquet import read_parquet

        self.tokens, self.settings = tokens, settings
        self.paths = sorted(Path(folder).glob(f"{split}-*.parquet"))
        if not self.paths:
            raise UserError(f"{folder}: no shard of {split}; build them first")
        names = ["uid", "words", "missed", "reason", *settings.scores]
        tables = [read_parquet(path, _WHAT, names).to_pydict() for path in self.paths]
        starts = np.cumsum([0] + [len(table["uid"]) for table in tables])
        self._starts = starts
        self._columns = {name: [value for table in tables for value in table[name]] for name in names}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of all examples: float32 [n, scores]."""
        return np.array([self._columns[name] for name in self.settings.scores], np.float32).T

    def words(self, row: int) -> list[str]:
        """Return the words of an example's prompt."""
        return list(self._columns["words"][row])

    def labels(self, row: int) -> np.ndarray | None:
        """Return which words the image misses; None where labels and words don't fit."""
        missed = self._columns["missed"][row]
        return None if missed is None else np.array(missed, bool)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return examples: images and maps resized with Pillow's bilinear filter, nothing augmented."""
        images, maps = zip(*(self._files(int(row)) for row in rows), strict=True)
        return make_batch(
            np.stack(images), [self.words(int(row)) or [""] for row in rows],
            [self.labels(int(row)) for row in rows], self.scores[rows], np.stack(maps), self.tokens, self.settings,
        )  # fmt: skip

    def _files(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Decode an example's image, uint8 [side, side, 3], and its maps, float32 [maps, side, side] in 0..1, or NaN."""
        from PIL import Image

        shard = int(np.searchsorted(self._starts, row, "right")) - 1
        path, at = self.paths[shard], row - int(self._starts[shard])
        names = ["image", *self.settings.heatmaps]
        values = _read_row(path, at, names)
        where = f"{path}: {self._columns['uid'][row]}"
        side = (self.settings.map_side,) * 2
        maps = np.full((len(self.settings.heatmaps), *side), np.nan, np.float32)
        for at, name in enumerate(self.settings.heatmaps):
            if values[name] is not None:
                map_ = _decode(values[name]["bytes"], f"{where}, {name}").convert("L")
                maps[at] = np.asarray(map_.resize(side, Image.Resampling.BILINEAR), np.float32) / 255
        image = resized(_decode(values["image"]["bytes"], f"{where}, image"), self.settings.image_side)
        return image, maps
