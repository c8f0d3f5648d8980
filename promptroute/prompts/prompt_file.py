"""Prompts from a file: one of the published sets, or anybody's own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.core.parsing import unique
from promptroute.core.plain import Section
from promptroute.core.text import is_blank, number
from promptroute.io.delimited import decode, read_delimited
from promptroute.io.records import read_parquet_rows
from promptroute.io.sources import FileRead, Source, read_own
from promptroute.prompts.source import PromptSource

FORMATS = ("csv", "tsv", "jsonl", "parquet", "txt")
ID_WIDTH = 7


class PromptFile(PromptSource):
    """One file of prompts.

    Settings:
        path: below `source`, with forward slashes; without a source, a local path.
        set: short name of the prompt set, as `DRAW`; it is part of every row.
        text: column of the prompts. Without meaning for txt, which has one prompt a line.
        id: column of the file's own ids, which then stay the prompts' ids; null: ids are numbered.
        source: where a published file lies; null: on this machine.
        format: null: what the path's ending says.
        min_words, max_words: keep prompts of so many words, ends included; words are counted by white space.
        below: column → threshold; keep rows whose number lies below it. DiffusionDB rates how unsafe an
            image and its prompt are in `image_nsfw` and `prompt_nsfw`, 0 (safe) to 1; 2 is a blurred image.
        duplicates: "merge" makes one row of rows with the very same text (the first, with their number as
            `count`); "keep" leaves every row, each with a count of 1.
    """

    path: str
    set: str = "OWN"
    text: str = "prompt"
    id: str | None = None
    source: Source | None = None
    format: Literal["csv", "tsv", "jsonl", "parquet", "txt"] | None = None
    min_words: int | None = Field(default=None, ge=0)
    max_words: int | None = Field(default=None, ge=0)
    below: Mapping[str, float] = {}
    duplicates: Literal["merge", "keep"] = "merge"

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self._format not in FORMATS:
            raise UserError(
                f"{self.path}: format {self._format!r} can't be read; set format to one of {', '.join(FORMATS)}"
            )
        if self._format == "txt" and (self.id or self.below):
            raise UserError(f"{self.path}: a txt file has no columns; leave out id and below, or use csv")
        return self

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the file, or its address."""
        path, source = section.get("path"), section.get("source")
        return build(source, "source", Source).place(str(path)) if source else path

    @property
    def has_own_ids(self) -> bool:
        """Tell whether ids come from the file rather than being numbered here."""
        return self.id is not None

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """Read `Prompt` rows in the file's order.

        Ids that are made here are `set` and the number of the row among those that are left, in a fixed
        width of `ID_WIDTH` digits.

        Raises:
            UserError: naming file, line and fix: a file or column that is absent, text that is not UTF-8, an
                empty prompt or id, an id that is a duplicate, a filter column that is no number, or filters
                that leave nothing.
        """
        content, sha256 = read_own(self.path) if self.source is None else self.source.read(self.path)
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

    @property
    def _columns(self) -> list[str]:
        return [self.text, *([self.id] if self.id else []), *self.below]

    def _rows(self, content: bytes) -> pd.DataFrame:
        """Read the file's records; the index is the line (for parquet, the row) of each."""
        match self._format:
            case "csv":
                return read_delimited(content, self.path, self._columns)
            case "tsv":
                return read_delimited(content, self.path, self._columns, delimiter="\t")
            case "jsonl":
                return _table(self._json_rows(content), self.path)
            case "parquet":
                fix = "set text (or id, below) to the right one"
                return read_parquet_rows(content, self.path, self._columns, fix)
        lines = decode(content, self.path).split("\n")
        # Splitting at anything but line ends would cut prompts that hold, say, a line separator character.
        texts = ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1))
        return _table(((number, {self.text: line}) for number, line in texts if line.strip()), self.path)

    def _json_rows(self, content: bytes) -> Iterator[tuple[int, dict[str, object]]]:
        for place, line in enumerate(decode(content, self.path).split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=unique)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{self.path}: line {place} is not JSON ({error}); write one object a line"
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{self.path}: line {place} is not a JSON object; write one object a line")
            if missing := [name for name in self._columns if name not in row]:
                have = ", ".join(map(str, row)) or "nothing"
                raise UserError(
                    f"{self.path}: line {place} has no {', '.join(missing)}, only {have}; "
                    f"give every line the same keys, or set text (or id, below) to the right one"
                )
            yield place, {name: row[name] for name in self._columns}

    def _check(self, raw: pd.DataFrame) -> None:
        if self.id is not None:
            # Ids that are numbers (JSON, parquet) are as good as text.
            raw[self.id] = [str(value) if isinstance(value, int) else value for value in raw[self.id]]
        for name in self._columns[: 2 if self.id else 1]:
            for line, value in raw[name].items():
                where = f"{self.path}: {self._unit} {line}: {name}"
                if not isinstance(value, str):
                    raise UserError(f"{where} {value!r} is not text; make it text, or remove the row")
                if is_blank(value):
                    raise UserError(f"{where} is empty, or shows nothing; fill it in, or remove the row")
                if "\x00" in value or not _encodable(value):
                    raise UserError(f"{where} {value[:60]!r} is not valid Unicode text; rewrite it")
        if self.id is not None and raw[self.id].duplicated().any():
            line = raw.index[raw[self.id].duplicated()][0]
            value = raw.loc[line, self.id]
            first = raw.index[raw[self.id] == value][0]
            raise UserError(
                f"{self.path}: {self._unit} {line}: {self.id} {value!r} duplicates that in {self._unit} "
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
            numbers = pd.to_numeric(
                raw[name].map(lambda cell: number(str(cell), raw.attrs.get("decimal", ".")))
            )
            if numbers.isna().any():
                line = numbers.index[numbers.isna()][0]
                raise UserError(
                    f"{self.path}: {self._unit} {line}: {name} {raw.loc[line, name]!r} is not a number, so "
                    f"it can't be held against {threshold}; correct it, or take {name} out of below"
                )
            keep &= numbers < threshold
        return keep


class PromptFolder(PromptSource):
    """A folder of prompt files, each a set of its own that is named as the file: `tags.csv` is the set `TAGS`.

    Settings:
        path: the folder. Its csv, tsv, jsonl, parquet and txt files are read, in the order of their names.
        text: column of the prompts in each of them.
    """

    path: str
    text: str = "prompt"

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the folder."""
        return section.get("path")

    def read(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """Read every file; see `PromptSource.read` and `PromptFile.read`."""
        folder = Path(self.path)
        if not folder.is_dir():
            raise UserError(f"{self.path}: no such folder; name one that holds files of prompts")
        files = sorted(path for path in folder.iterdir() if path.suffix.removeprefix(".").lower() in FORMATS)
        if not files:
            raise UserError(f"{self.path}: holds no file of prompts; put one there ({', '.join(FORMATS)})")
        parts = (PromptFile(path=path.as_posix(), set=path.stem.upper(), text=self.text) for path in files)
        rows, read = zip(*(part.read() for part in parts), strict=True)
        return pd.concat(rows, ignore_index=True), [file for found in read for file in found]


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
