"""Prompts from a file: one of the published sets, or anybody's own."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pandas as pd

from promptroute.core.errors import UserError
from promptroute.io.delimited import decode, read_delimited
from promptroute.io.sources import FileRead, Source

FORMATS = ("csv", "tsv", "jsonl", "parquet", "txt")
DUPLICATES = ("merge", "keep")
ID_WIDTH = 7


@dataclass(frozen=True)
class PromptFile:
    """One file of prompts as a prompt source: `read()` gives its `Prompt` rows in the file's order.

    Attributes:
        path: below `source`, with forward slashes; without a source, a local path.
        set: short name of the prompt set, as `DRAW`; stands in every row.
        text: column of the prompts. Of no meaning for txt, which has one prompt a line.
        id: column of the file's own ids, which then stay the prompts' ids; null: numbers are made.
        source: where the published file lies; null: on this machine.
        format: one of `FORMATS`; null: what the path's ending says.
        min_words, max_words: keep prompts of so many words, ends included; words are counted by white space.
        below: column → threshold; keep rows whose number lies below it. DiffusionDB rates how unsafe an
            image and its prompt are in `image_nsfw` and `prompt_nsfw`, 0 (safe) to 1; 2 is a blurred image.
        duplicates: "merge" makes one row of rows with the very same text (the first, with their number as
            `count`); "keep" leaves every row, each with a count of 1.
    """

    path: str
    set: str
    text: str = "prompt"
    id: str | None = None
    source: Source | None = None
    format: str | None = None
    min_words: int | None = None
    max_words: int | None = None
    below: Mapping[str, float] = field(default_factory=dict)
    duplicates: str = "merge"

    def __post_init__(self) -> None:
        if self._format not in FORMATS:
            raise UserError(
                f"{self.path}: format {self._format!r} is none that can be read; "
                f"set format to one of {', '.join(FORMATS)}"
            )
        if self.duplicates not in DUPLICATES:
            allowed = " or ".join(DUPLICATES)
            raise UserError(f"{self.path}: duplicates is {self.duplicates!r}; set it to {allowed}")
        if self._format == "txt" and (self.id or self.below):
            raise UserError(f"{self.path}: a txt file has no columns; take away id and below, or use csv")

    @property
    def has_own_ids(self) -> bool:
        """Whether ids come from the file rather than being made here."""
        return self.id is not None

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """`Prompt` rows in the file's order, and the file that they were read from.

        Ids that are made here are `set` and the number of the row among those that are left, in a fixed
        width of `ID_WIDTH` digits.

        Raises:
            UserError: naming file, line and fix: a file or column that is absent, text that is not UTF-8, an
                empty prompt or id, an id that stands twice, a filter column that is no number, or filters
                that leave nothing.
        """
        content, sha256 = self._content()
        raw = self._rows(content)
        self._check(raw)
        kept = raw[self._filter(raw)]
        if kept.empty:
            raise UserError(f"{self.path}: the filters leave none of its {len(raw)} prompts; loosen them")
        count = pd.Series(1, index=kept.index)
        if self.duplicates == "merge":
            count = kept.groupby(self.text)[self.text].transform("size")
            kept = kept.drop_duplicates(self.text)
        made = [f"{self.set}{number:0{ID_WIDTH}d}" for number in range(1, len(kept) + 1)]
        rows = pd.DataFrame(
            {
                "prompt_id": kept[self.id].to_list() if self.id else made,
                "prompt": kept[self.text].to_list(),
                "set": self.set,
                "count": count[kept.index].to_list(),
            }
        )
        return rows, [FileRead(self.path, sha256, len(raw))]

    @property
    def _format(self) -> str:
        return self.format or PurePosixPath(self.path).suffix.removeprefix(".").lower()

    @property
    def _unit(self) -> str:
        return "row" if self._format == "parquet" else "line"

    def _content(self) -> tuple[bytes, str]:
        if self.source is not None:
            return self.source.read(self.path)
        folder, slash, name = self.path.rpartition("/")
        return Source(folder or slash or ".").read(name)

    @property
    def _columns(self) -> list[str]:
        return [self.text, *([self.id] if self.id else []), *self.below]

    def _rows(self, content: bytes) -> pd.DataFrame:
        """The file's records; the index is the line (for parquet, the row) of each."""
        match self._format:
            case "csv":
                return read_delimited(content, self.path, self._columns)
            case "tsv":
                return read_delimited(content, self.path, self._columns, delimiter="\t")
            case "jsonl":
                return _table(self._json_rows(content), self.path)
            case "parquet":
                return self._parquet_rows(content)
        lines = decode(content, self.path).split("\n")
        # Splitting at anything but line ends would tear prompts that hold, say, a line separator sign.
        texts = ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1))
        return _table(((number, {self.text: line}) for number, line in texts if line.strip()), self.path)

    def _json_rows(self, content: bytes) -> Iterator[tuple[int, dict[str, object]]]:
        for number, line in enumerate(decode(content, self.path).split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{self.path}: line {number} is not JSON ({error}); write one object a line"
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{self.path}: line {number} is no JSON object; write one object a line")
            if missing := [name for name in self._columns if name not in row]:
                have = ", ".join(map(str, row)) or "nothing"
                raise UserError(
                    f"{self.path}: line {number} has no {', '.join(missing)}, only {have}; "
                    f"give every line the same keys, or name the right one in prompts.sources"
                )
            yield number, {name: row[name] for name in self._columns}

    def _parquet_rows(self, content: bytes) -> pd.DataFrame:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(io.BytesIO(content))
            have = file.schema_arrow.names
            if missing := [name for name in self._columns if name not in have]:
                raise UserError(
                    f"{self.path}: no column {', '.join(missing)}, the file has {', '.join(have)}; "
                    f"name the right one in prompts.sources"
                )
            columns = file.read(columns=self._columns).to_pydict()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.path}: not a readable parquet file ({error}); fetch it again") from error
        rows = pd.DataFrame(columns, dtype=object)
        if rows.empty:
            raise UserError(f"{self.path}: no rows; fetch the file again")
        return rows.set_index(pd.RangeIndex(1, len(rows) + 1, name="line"))

    def _check(self, raw: pd.DataFrame) -> None:
        if self.id is not None:
            # Ids that are numbers (JSON, parquet) are as good as text.
            raw[self.id] = [str(value) if isinstance(value, int) else value for value in raw[self.id]]
        for name in self._columns[: 2 if self.id else 1]:
            for line, value in raw[name].items():
                where = f"{self.path}: {self._unit} {line}: {name}"
                if not isinstance(value, str):
                    raise UserError(f"{where} {value!r} is no text; make it text, or remove the row")
                if not value.strip():
                    raise UserError(f"{where} is empty; fill it in, or remove the row")
                if "\x00" in value or not _encodable(value):
                    raise UserError(f"{where} {value[:60]!r} is not valid Unicode text; rewrite it")
        if self.id is not None and raw[self.id].duplicated().any():
            line = raw.index[raw[self.id].duplicated()][0]
            value = raw.loc[line, self.id]
            first = raw.index[raw[self.id] == value][0]
            raise UserError(
                f"{self.path}: {self._unit} {line}: {self.id} {value!r} stands already in {self._unit} "
                f"{first}; make ids unique, or set id to null to have them numbered"
            )

    def _filter(self, raw: pd.DataFrame) -> "pd.Series[bool]":
        words = raw[self.text].map(lambda text: len(text.split()))
        keep = pd.Series(True, index=raw.index)
        if self.min_words is not None:
            keep &= words >= self.min_words
        if self.max_words is not None:
            keep &= words <= self.max_words
        for name, threshold in self.below.items():
            numbers = pd.to_numeric(raw[name], errors="coerce")
            if numbers.isna().any():
                line = numbers.index[numbers.isna()][0]
                raise UserError(
                    f"{self.path}: {self._unit} {line}: {name} {raw.loc[line, name]!r} is not a number, so "
                    f"it can't be held against {threshold}; correct it, or take {name} out of below"
                )
            keep &= numbers < threshold
        return keep


def _table(rows: Iterator[tuple[int, dict[str, object]]], where: str) -> pd.DataFrame:
    listed = list(rows)
    if not listed:
        raise UserError(f"{where}: no rows; fetch the file again")
    index = pd.Index([line for line, _ in listed], name="line")
    return pd.DataFrame([row for _, row in listed], index=index, dtype=object)


def _encodable(text: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell and UTF-8 can't hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
