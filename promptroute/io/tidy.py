"""Tidy tables of scores: a file of prompts, and one with a row for each prompt and model.

    PROMPTS: prompt, and optionally prompt_id, set
    SCORES:  prompt_id (or prompt), model, a column for each score, and optionally seconds, dollars, images

csv, tsv or parquet, on this machine or at an https address. Which models and scores there are is said by the table.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import pandas as pd

from promptroute.core.component import TARGET, Component
from promptroute.core.errors import UserError
from promptroute.core.outputs import Output
from promptroute.core.plain import Plain, Section
from promptroute.core.text import is_blank, number, short
from promptroute.io.delimited import read_delimited
from promptroute.io.published import ScoreTable, TableRead
from promptroute.io.records import read_parquet_rows
from promptroute.io.sources import FileRead, read_own

FACTS = {"seconds": 0.0, "dollars": 0.0, "images": 1.0}
"""Columns of the scores file that are no scores → the least that they may hold."""
MOST_IMAGES = 1_000_000
"""Images behind a score, at most."""
_KEYS = ("prompt_id", "prompt", "model")
_OUTPUT = "score"
_FIX = "rename the column that holds it"


class TableScore(Component):
    """A score of a tidy table: `NAME.score`, whatever gave it.

    Settings:
        label: how people write it.
        low, high: range that every score must lie in; None: no bound.
        higher_is_better: direction.
    """

    label: str
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Declare the one score."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return (Output(_OUTPUT, self.label, low, high, self.higher_is_better),)


class TidyTable(ScoreTable):
    """A table of scores in two files; see the module.

    Settings:
        prompts, scores: the files.
        columns: the scores to read, as the file calls them; None: all. Quality, where nothing else is said, is the first.
        lower_is_better: those of them where less is better.
        missing: what to do where a model has no score of some prompt: "refuse"; "drop_model" leaves the model out;
            "drop_prompt" leaves the prompt out, for every model.
    """

    prompts: str
    scores: str
    columns: Sequence[str] | None = None
    lower_is_better: Sequence[str] = ()
    missing: Literal["refuse", "drop_model", "drop_prompt"] = "refuse"

    _prompts: pd.DataFrame | None = None
    _cells: pd.DataFrame | None = None
    _files: Mapping[str, FileRead] = {}

    @classmethod
    def reads(cls, section: Section) -> str | None:
        """Name the scores file."""
        return section.get("scores")

    def at(self, folder: Path | str) -> Self:
        """Give the same table, its files in another local folder."""
        files = {name: f"{folder}/{_name(getattr(self, name))}" for name in ("prompts", "scores")}
        return type(self)(**{**dict(self), **files})

    def models(self) -> dict[str, Plain]:
        """Give the models by key, in the file's order: label, stem (its name in the file), profile.

        The profile holds the means of the columns `seconds` and `dollars`, where the file has them.
        """
        cells = self._table()
        found = {}
        for key, rows in cells.groupby("key", sort=False):
            name = rows["model"].iloc[0]
            profile = {
                fact: float(rows[fact].mean()) for fact in ("seconds", "dollars") if rows[fact].notna().any()
            }
            found[str(key)] = {"label": name, "stem": name, **({"profile": profile} if profile else {})}
        return found

    def scorers(self) -> dict[str, Plain]:
        """Give the sections of the scores, by key."""
        self._table()
        return {
            key: {
                TARGET: TableScore.class_path(),
                "label": column,
                **({"higher_is_better": False} if column in self.lower_is_better else {}),
            }
            for key, column in self._score_columns.items()
        }

    def label(self) -> str:
        """Say which table it is, and which of its models were left out."""
        dropped = self._table().attrs["dropped"]
        without = f", without {', '.join(dropped)}, which lack scores" if dropped else ""
        return f"{_name(self.scores)}{without}"

    def prompt_rows(self) -> tuple[pd.DataFrame, Sequence[FileRead]]:
        """Read `Prompt` rows, and name their file.

        Raises:
            UserError: naming file, line and fix.
        """
        rows = self._prompt_table()
        return rows[["prompt_id", "prompt", "set"]].assign(count=1), [self._files["prompts"]]

    def read(self, scorer: str, output: Output, stem: str) -> TableRead:
        """See `ScoreTable.read`."""
        cells = self._table()
        column = _column(scorer)
        own = cells[cells["model"] == stem]
        own = own.dropna(subset=[column]) if column in cells else own.head(0)
        if own.empty:
            raise UserError(
                f"{_name(self.scores)}: no {scorer} score of {stem!r}; compose the parameters again, so that they name "
                f"what the table holds"
            )
        outside = own[~own[column].between(output.low, output.high)]
        if len(outside):
            line, row = outside.index[0], outside.iloc[0]
            raise UserError(
                f"{self._place('scores', line)}: {scorer} {row[column]:g} is outside of {output.low:g} to {output.high:g}, "
                f"what {output.label} ranges over; correct it, or the range"
            )
        rows = own.assign(
            output=output.name, value=own[column], file=_name(self.scores), line=own.index
        ).reset_index(drop=True)
        kept = ["prompt_id", "prompt", "set", "output", "value", "seconds", "images", "file", "line"]
        return TableRead(rows[kept], [self._files["scores"]], gaps=self.missing == "drop_prompt")

    @property
    def _score_columns(self) -> dict[str, str]:
        """Key → name in the file of each score that is read."""
        return self._table().attrs["scores"]

    def _table(self) -> pd.DataFrame:
        """Return the checked cells, read once: prompt_id, prompt, set, model, key, facts, scores."""
        if self._cells is None:
            self._cells = self._read_scores()
        return self._cells

    def _prompt_table(self) -> pd.DataFrame:
        if self._prompts is None:
            self._prompts = self._read_prompts()
        return self._prompts

    def _read_prompts(self) -> pd.DataFrame:
        raw = self._raw("prompts", ["prompt"])
        if "prompt_id" not in raw:
            width = max(4, len(str(len(raw))))
            raw["prompt_id"] = [f"T{place:0{width}d}" for place in range(1, len(raw) + 1)]
        if "set" not in raw:
            raw["set"] = PurePosixPath(self.prompts).name.split(".")[0]
        for column in ("prompt_id", "prompt", "set"):
            raw[column] = self._texts(raw, "prompts", column)
        self._refuse_again(raw, "prompts", ["prompt_id"], "give every prompt an id of its own")
        return raw

    def _read_scores(self) -> pd.DataFrame:
        prompts = self._prompt_table()
        raw = self._raw("scores", ["model"])
        by = next((column for column in ("prompt_id", "prompt") if column in raw), None)
        if by is None:
            raise UserError(
                f"{_name(self.scores)}: no column prompt_id or prompt, the file has {', '.join(map(str, raw))}; {_FIX}"
            )
        if by == "prompt":
            self._refuse_again(prompts, "prompts", ["prompt"], "name prompts in the scores by prompt_id")
        scores = self._columns_of([str(name) for name in raw.columns])
        cells = raw[[by, "model"]].copy()
        for column in (by, "model"):
            cells[column] = self._texts(raw, "scores", column)
        known: pd.DataFrame = prompts.set_index(by)[[c for c in ("prompt_id", "prompt", "set") if c != by]]
        unknown = cells[~cells[by].isin(known.index)]
        if len(unknown):
            raise UserError(
                f"{self._place('scores', unknown.index[0])}: {by} {short(unknown[by].iloc[0])} is not in "
                f"{_name(self.prompts)} ({len(unknown)} such row(s)); add the prompt there, or remove the row"
            )
        self._refuse_again(cells, "scores", [by, "model"], "remove one of the two")
        for column in known.columns:
            cells[column] = cells[by].map(known[column])
        cells["key"] = cells["model"].map(
            _keys(list(cells["model"].unique()), "-", f"{_name(self.scores)}: model")
        )
        for key, column in scores.items():
            cells[_column(key)] = self._numbers(raw, column)
        for fact, least in FACTS.items():
            cells[fact] = self._numbers(raw, fact, least) if fact in raw else math.nan
        cells["images"] = cells["images"].fillna(1).astype("int64")
        cells, dropped = self._treat_missing(cells, [_column(key) for key in scores], len(prompts))
        cells.attrs = {"scores": scores, "dropped": dropped}
        return cells

    def _columns_of(self, have: list[str]) -> dict[str, str]:
        """Choose the columns that are scores: key → name."""
        where = _name(self.scores)
        others = {*_KEYS, *FACTS}
        named = [column for column in have if column not in others] if self.columns is None else self.columns
        if lost := [
            column for column in (*named, *self.lower_is_better) if column not in have or column in others
        ]:
            raise UserError(
                f"{where}: no score {', '.join(lost)}, the file has {', '.join(c for c in have if c not in others)}; "
                f"name one of these in columns and lower_is_better"
            )
        if not named:
            raise UserError(f"{where}: no column of scores, only {', '.join(have)}; add one")
        return {key: column for column, key in _keys(named, "_", f"{where}: score").items()}

    def _treat_missing(
        self, cells: pd.DataFrame, scores: list[str], prompts: int
    ) -> tuple[pd.DataFrame, list[str]]:
        """Refuse models that lack scores, or leave them out: the other cells, and their names."""
        whole = cells.dropna(subset=scores)
        count = whole.groupby("model", sort=False).size().reindex(cells["model"].unique(), fill_value=0)
        lacking = count[count < prompts]
        if lacking.empty or self.missing == "drop_prompt":
            return cells, []
        if self.missing == "drop_model" and len(lacking) < len(count):
            return cells[~cells["model"].isin(lacking.index)], list(lacking.index)
        most = ", ".join(f"{name} {prompts - n}" for name, n in lacking.head(5).items())
        more = f" and {len(lacking) - 5} more models" if len(lacking) > 5 else ""
        drop_model = '"drop_model" or ' if self.missing == "refuse" else ""
        raise UserError(
            f'{_name(self.scores)}: scores are missing: of {prompts} prompts {most}{more}; add them, set missing to {drop_model}"drop_prompt", '
            f"or choose columns that are complete"
        )

    def _raw(self, which: Literal["prompts", "scores"], columns: Sequence[str]) -> pd.DataFrame:
        path = str(getattr(self, which))
        name = _name(path)
        content, sha256 = read_own(path)
        match PurePosixPath(name).suffix.lower():
            case ".csv":
                raw = read_delimited(content, name, columns)
            case ".tsv":
                raw = read_delimited(content, name, columns, delimiter="\t")
            case ".parquet":
                raw = read_parquet_rows(content, name, columns, _FIX, further=True)
            case other:
                raise UserError(
                    f"{path}: a file ending in {other!r} can't be read; save it as csv, tsv or parquet"
                )
        self._files = {**self._files, which: FileRead(name, sha256, len(raw))}
        return raw

    def _place(self, which: Literal["prompts", "scores"], line: object) -> str:
        name = _name(getattr(self, which))
        return f"{name}: {'row' if name.endswith('.parquet') else 'line'} {line}"

    def _texts(self, raw: pd.DataFrame, which: Literal["prompts", "scores"], column: str) -> list[str]:
        texts = []
        for line, cell in raw[column].items():
            text = str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell
            if not isinstance(text, str) or is_blank(text):
                raise UserError(
                    f"{self._place(which, line)}: {column} {short(cell)} is empty or no text; fill it in, or remove "
                    f"the row"
                )
            texts.append(text)
        return texts

    def _numbers(self, raw: pd.DataFrame, column: str, least: float = -math.inf) -> list[float]:
        """Read a column's finite numbers; NaN where a cell is empty."""
        found, decimal = [], raw.attrs.get("decimal", ".")
        for line, cell in raw[column].items():
            empty = cell is None or cell == "" or cell != cell
            value = math.nan if empty else number(str(cell), decimal) if not isinstance(cell, bool) else None
            if value is None:
                raise UserError(
                    f"{self._place('scores', line)}: {column} {short(cell)} is not a finite number; correct it, leave the "
                    f"cell empty, or name in columns which are scores"
                )
            if value < least or (value == 0 and column in ("seconds", "dollars")):
                raise UserError(
                    f"{self._place('scores', line)}: {column} is {value:g}; expected "
                    f"{'1 or more' if column == 'images' else 'a number above 0'}"
                )
            if column == "images" and not empty and (value % 1 or value > MOST_IMAGES):
                raise UserError(
                    f"{self._place('scores', line)}: images is {value:g}; expected a whole number up to {MOST_IMAGES:,}"
                )
            found.append(value)
        return found

    def _refuse_again(
        self, rows: pd.DataFrame, which: Literal["prompts", "scores"], key: list[str], fix: str
    ) -> None:
        again = rows[rows.duplicated(key)]
        if len(again):
            row = again.iloc[0]
            first = rows.index[(rows[key] == row[key]).all(axis=1)][0]
            what = ", ".join(f"{name} {short(row[name])}" for name in key)
            raise UserError(
                f"{self._place(which, again.index[0])}: {what} stands already in {self._place(which, first)} "
                f"({len(again)} such row(s)); {fix}"
            )


def key_of(name: str, between: str) -> str:
    """Turn a name into a key: lower case, with `between` for what a key can't hold; empty where nothing is left."""
    kept = "a-z0-9_-" if between == "-" else "a-z0-9_"
    return re.sub(f"[^{kept}]+", between, name.lower()).strip("-_")


def _keys(names: Sequence[str], between: str, what: str) -> dict[str, str]:
    """Give each name's key.

    Raises:
        UserError: a name has no letter or digit of ASCII, or two have one key.
    """
    keys: dict[str, str] = {}
    for name in names:
        key = key_of(name, between)
        if not key:
            raise UserError(f"{what} {short(name)} has no letter a to z and no digit, so no key; rename it")
        if key in keys.values():
            other = next(one for one, known in keys.items() if known == key)
            raise UserError(
                f"{what}s {short(other)} and {short(name)} would both be {key}; rename one of them"
            )
        keys[name] = key
    return keys


def _column(scorer: str) -> str:
    """Name the column of a score apart from those of keys and facts."""
    return f"{scorer}.{_OUTPUT}"


def _name(path: str) -> str:
    return PurePosixPath(path).name
