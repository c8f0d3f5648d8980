"""The published layout of CEMS: one csv file per scorer and model, in up to two parts.

    Model_Perf/{scorer}_score/{scorer}_score_with_time_{stem}.csv   base: MS-COCO and LN-COCO
    Model_Perf/aug_10k/{scorer}_score_with_time_{stem}.csv          augmented: the other three prompt sets

The base part may be absent as a whole; where it is there, its rows come first, as in CEMS's own code.
"""

import dataclasses
import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field

from promptroute.core.component import Component, build
from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.plain import Section
from promptroute.core.text import is_blank, number, short
from promptroute.io.delimited import read_delimited
from promptroute.io.sources import Cems, FileRead, Source, held_by

BASE = "Model_Perf/{scorer}_score/{scorer}_score_with_time_{stem}.csv"
AUGMENTED = "Model_Perf/aug_10k/{scorer}_score_with_time_{stem}.csv"
# Where other people's folders may hold the same files: (base, augmented) below the folder.
_FOLDERS = (
    (BASE, AUGMENTED),
    (BASE.removeprefix("Model_Perf/"), AUGMENTED.removeprefix("Model_Perf/")),
    (None, AUGMENTED.removeprefix("Model_Perf/aug_10k/")),
)


@dataclass(frozen=True)
class TableRead:
    """What the files of one scorer and model hold.

    Attributes:
        rows: one per prompt, base part first, in the files' order. prompt_id, prompt, set, output (str);
            value (float64, the output's unit and direction); seconds (float64, s per image; NaN where the file
            has no times); images (int); file (str), line (int): where the row stands.
        files: the files, in the order in which they were read.
        gaps: whether prompts may be without a row, so that the study leaves them out.
    """

    rows: pd.DataFrame
    files: Sequence[FileRead]
    gaps: bool = False

    @property
    def scores(self) -> pd.DataFrame:
        """`Score` rows; seed is null, because what is published is the mean over the images."""
        seed = pd.array([None] * len(self.rows), dtype="Int64")
        return self.rows.assign(seed=seed)[["prompt_id", "seed", "output", "value", "images", "seconds"]]

    @property
    def prompts(self) -> pd.DataFrame:
        """`Prompt` rows, as they stand: a text in two rows is two prompts, each with count 1."""
        return self.rows[["prompt_id", "prompt", "set"]].assign(count=1)

    def sources_json(self) -> str:
        """The files read, as JSON: [{path, sha256, rows}]. The same wherever they lay."""
        return json.dumps([dataclasses.asdict(file) for file in self.files])


class ScoreTable(Component):
    """Scores of prompts × models that somebody made: whatever its files look like."""

    @abstractmethod
    def read(self, scorer: str, output: Output, stem: str) -> TableRead:
        """Read the scores of one model.

        Args:
            scorer: whose scores.
            output: which of its outputs; its range is held against every score.
            stem: what the table calls the model.

        Raises:
            UserError: naming file, line and fix.
        """

    @abstractmethod
    def at(self, folder: Path | str) -> Self:
        """Give the same table, its files in another local folder."""


class PublishedTable(ScoreTable):
    """A published performance table of CEMS's layout.

    Settings:
        source: where the files lie.
        files: scorer → stems of the models whose files the table has. The first of them is what every
            other is compared with: either all have a base part, or none.
        augmented: path of the part that must be there, below the source; `{scorer}` and `{stem}` are
            filled in.
        base: path of the part that may be absent as a whole; null: there is none.
        images: images behind each score.
    """

    source: Source
    files: Mapping[str, Sequence[str]]
    augmented: str = AUGMENTED
    base: str | None = BASE
    images: int = Field(3, ge=1)

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the augmented file of a section's `scorer` and `stem`."""
        path = str(section.get("augmented") or AUGMENTED)
        source = section.get("source") or cls.model_fields["source"].get_default()
        named = source if isinstance(source, Source) else build(source, "source", Source)
        return named.place(path.format(scorer=section["scorer"], stem=section["stem"]))

    def at(self, folder: Path | str) -> Self:
        """The same table in another local folder.

        The folder may hold `Model_Perf/`, or what stands in it (`aug_10k/`, with or without the base
        folders), or directly the files of `aug_10k/`.

        Raises:
            UserError: no such folder, or none of the table's files in it; lists what it holds.
        """
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder; name one that holds {self._names(AUGMENTED)[0]}")
        source = Source(address=str(folder))
        for base, augmented in _FOLDERS:
            table = self.model_copy(update={"source": source, "base": base, "augmented": augmented})
            if any(source.has(name) for name in table._names(augmented)):
                return table
        raise UserError(
            f"{folder}: no performance table, the folder holds {held_by(Path(folder))}; "
            f"expected {self._names(AUGMENTED)[0]}, or that file without its folders"
        )

    def read(self, scorer: str, output: Output, stem: str) -> TableRead:
        """See `ScoreTable.read`; `scorer` and `stem`, as `SDXL-Turbo`, fill in the paths.

        Raises:
            UserError: naming file, line and fix: a missing file or column, a base part that only some
                files have, a duplicate prompt_id, an empty prompt, or a score or time that is no
                number or out of range.
        """
        parts = []
        if self.base is not None and self._has_base(base := self.base.format(scorer=scorer, stem=stem)):
            parts.append(self._part(base, scorer, output, ("prompt_id", "prompt")))
        augmented = self.augmented.format(scorer=scorer, stem=stem)
        parts.append(
            self._part(augmented, scorer, output, ("dataset_id", "prompt_id", "prompt", "mean_time"))
        )
        rows = pd.concat([rows for rows, _ in parts], ignore_index=True)
        _refuse_repeated_ids(rows)
        return TableRead(rows.assign(images=self.images), [file for _, file in parts])

    def _names(self, path: str) -> list[str]:
        """Every file of a part."""
        return [
            path.format(scorer=scorer, stem=stem) for scorer, stems in self.files.items() for stem in stems
        ]

    def _has_base(self, own: str) -> bool:
        """Tell whether the table has a base part, which all of its files must agree on.

        Each file is held against the table's first alone, so that a study asks a web server for two files
        per score rather than for all: together the studies' stages still compare every file.
        """
        assert self.base is not None
        first = self._names(self.base)[0]
        has = {path: self.source.has(path) for path in (own, first)}
        if has[own] != has[first]:
            there, lost = (own, first) if has[own] else (first, own)
            raise UserError(
                f"{self.source.root}/{lost}: no such file, although {there} is there; the base part must be "
                "complete, so add the file, or remove the base part of every scorer and model"
            )
        return has[own]

    def _part(
        self, path: str, scorer: str, output: Output, columns: Sequence[str]
    ) -> tuple[pd.DataFrame, FileRead]:
        content, sha256 = self.source.read(path)
        value = f"{scorer}_score"
        raw = read_delimited(content, path, [*columns, value], closed=True)
        score = _numbers(raw, value, path, output.low, output.high, f"what {output.label} ranges over")
        if "mean_time" in raw.columns:
            seconds = _numbers(raw, "mean_time", path, 0.0, math.inf, "seconds per image")
        else:
            seconds = [math.nan] * len(raw)
        for column in ("prompt_id", "prompt"):
            _refuse_empty(raw[column], path, column)
        sets = raw["dataset_id"] if "dataset_id" in raw.columns else raw["prompt_id"].str[:2]
        _refuse_empty(sets, path, "dataset_id")
        rows = pd.DataFrame(
            {
                "prompt_id": raw["prompt_id"].to_numpy(),
                "prompt": raw["prompt"].to_numpy(),
                "set": sets.to_numpy(),
                "output": output.name,
                "value": score,
                "seconds": seconds,
                "file": path,
                "line": raw.index.to_numpy(),
            }
        )
        return rows, FileRead(path, sha256, len(rows))


class CemsTable(PublishedTable):
    """CEMS's published table: four models and two scores; see `PublishedTable`."""

    source: Source = Cems()
    files: Mapping[str, Sequence[str]] = dict.fromkeys(
        ("nima", "clip"), ("SDXL-Turbo", "SD-Turbo", "amused", "TAESD")
    )


def check_same_prompts(read: TableRead, prompts: pd.DataFrame, whole: bool = False) -> None:
    """Refuse a table that is not about these prompts: rows are joined by prompt_id, and texts must agree.

    Args:
        read: one model's rows.
        prompts: `Prompt` rows of the study.
        whole: whether the table may hold no other prompts; false where the study is a sample of it.

    Raises:
        UserError: a prompt that the table lacks, a row that the study lacks (`whole`), or texts that differ;
            names file and line and shows both texts.
    """
    rows = read.rows
    files = ", ".join(file.path for file in read.files)
    unknown = rows[~rows["prompt_id"].isin(prompts["prompt_id"])]
    if whole and len(unknown):
        row = unknown.iloc[0]
        raise UserError(
            f"{row['file']}: line {row['line']}: prompt_id {row['prompt_id']!r} is not among the study's "
            f"{len(prompts)} prompts ({len(unknown)} such row(s)); "
            "remove the row, or fetch all files again, from one version of the table"
        )
    lost = prompts[~prompts["prompt_id"].isin(rows["prompt_id"])]
    if len(lost) and not read.gaps:
        row = lost.iloc[0]
        raise UserError(
            f"{files}: no row for prompt_id {row['prompt_id']!r} ({short(row['prompt'])}), {len(lost)} of "
            f"{len(prompts)} missing; sample the study's prompts from the same table, or fetch the file again"
        )
    text = prompts.set_index("prompt_id")["prompt"]
    expected = rows["prompt_id"].map(text)
    differs = rows[expected.notna() & (expected != rows["prompt"])]
    if len(differs):
        row = differs.iloc[0]
        raise UserError(
            f"{row['file']}: line {row['line']}: the prompt of {row['prompt_id']!r} is "
            f"{short(row['prompt'])}, but {short(text[row['prompt_id']])} in the file that the study's "
            f"prompts were taken from ({len(differs)} such row(s)); fetch both again, from one version of "
            "the table"
        )


def _refuse_empty(cells: "pd.Series[str]", path: str, column: str) -> None:
    empty = cells.map(is_blank)
    if empty.any():
        line = cells.index[empty.to_numpy()][0]
        raise UserError(
            f"{path}: line {line}: {column} is empty ({int(empty.sum())} such row(s)); fill it in, or remove "
            "the row"
        )


def _numbers(raw: pd.DataFrame, column: str, path: str, low: float, high: float, what: str) -> list[float]:
    """A column's finite numbers within [low, high]; `what` they are, for the message."""
    numbers = []
    for line, text in raw[column].items():
        value = number(text, raw.attrs.get("decimal", "."))
        if value is None:
            raise UserError(
                f"{path}: line {line}: {column} {short(text)} is not a finite number; fetch the file again"
            )
        if not low <= value <= high:
            between = f"below {low:g}" if value < low else f"above {high:g}"
            raise UserError(
                f"{path}: line {line}: {column} {short(text)} is {between}, but expected are {low:g} to "
                f"{high:g}, {what}; check that the file holds this column's values"
            )
        numbers.append(value)
    return numbers


def _refuse_repeated_ids(rows: pd.DataFrame) -> None:
    again = rows[rows["prompt_id"].duplicated()]
    if len(again):
        row = again.iloc[0]
        first = rows[rows["prompt_id"] == row["prompt_id"]].iloc[0]
        raise UserError(
            f"{row['file']}: line {row['line']}: prompt_id {row['prompt_id']!r} stands already in "
            f"{first['file']}, line {first['line']}; {len(again)} such row(s); remove one of the two"
        )
