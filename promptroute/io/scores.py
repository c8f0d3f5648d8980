"""What scorers gave: `scores.parquet`, and shards of maps and marks beside it.

Every file says in its metadata whose it is: the `model`, the scorer's `class`, and of scores the `scorer`'s name.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from promptroute.core.errors import NotMade
from promptroute.core.outputs import Output, check_ranges
from promptroute.core.performance import performance
from promptroute.core.plain import Plain, Section
from promptroute.core.rows import SCORE_KEY, Score
from promptroute.io.parquet import read_parquet
from promptroute.io.tables import read_table, write_table

_PLACE = [("prompt_id", pa.string()), ("seed", pa.int64()), ("output", pa.string())]
_NUMBERS = pa.list_(pa.field("element", pa.float32()))  # as parquet itself names the items of a list
MAPS = pa.schema([*_PLACE, ("height", pa.int32()), ("width", pa.int32()), ("values", _NUMBERS)])
"""Schema of maps-*.parquet: numbers over an image, row after row."""
MARKS = pa.schema([*_PLACE, ("words", pa.list_(pa.field("element", pa.string()))), ("values", _NUMBERS)])
"""Schema of marks-*.parquet: a number for each word of the prompt."""
FILES = {"map": ("maps", MAPS), "marks": ("marks", MARKS)}
"""An output's kind → the name of its files, and their schema."""


def scores_folder(scorer: str, model: str, published: bool = False, data: Path | str = "data") -> Path:
    """Name the folder of one model's scores by one scorer.

    A published scorer's lie apart: as an output of DVC, data/scores/SCORER belongs to the stage `score`. No scorer's
    name has a hyphen, so none is taken for this folder.
    """
    root = Path(data) / "scores"
    return (root / "published-tables" if published else root) / scorer / model


def write_scores(path: Path | str, rows: pd.DataFrame, about: Mapping[str, str]) -> None:
    """Write `Score` rows, with facts about the file.

    Raises:
        UserError: where `promptroute.core.rows.check` refuses the rows.
    """
    write_table(path, rows, Score, SCORE_KEY, about)


def read_scores(folder: Path, scorer: str, model: str) -> pd.DataFrame:
    """Read `scores.parquet` of a folder; `frame.attrs` holds what the file says about itself.

    Raises:
        UserError: the file is absent, corrupt, or of another scorer or model.
    """
    path = folder / "scores.parquet"
    rows = read_table(path, Score, SCORE_KEY, may_be_empty=True)
    found = rows.attrs.get("scorer"), rows.attrs.get("model")
    if found != (scorer, model):
        raise NotMade(
            f"{path}: holds scores by {found[0]} of {found[1]}, expected by {scorer} of {model}; "
            f"files were swapped or renamed, so make it again"
        )
    return rows


def gather_scores(
    outputs: Mapping[str, Mapping[str, Output]], models: Sequence[str], published: Collection[str]
) -> tuple[pd.DataFrame, Plain, dict[str, str]]:
    """Read the scores of every model by every scorer, their ranges checked.

    Only models and scorers that are named are read: files of a model that left the study may still be there.

    Args:
        outputs: scorer → its outputs by name.
        models: whose scores.
        published: those of the models whose scores a published table has.

    Returns:
        `Performance` rows; the files that published scores were read from, by SCORER/MODEL; and of which prompts they
        are, as `of_prompts`.

    Raises:
        UserError: as `read_scores`, a score is out of its range, or two files are of different prompts.
    """
    tables, sources, first = [], {}, Path()
    prompts: dict[str, str] = {}
    for scorer, declared in outputs.items():
        for model in models:
            folder = scores_folder(scorer, model, published=model in published)
            scores = read_scores(folder, scorer, model)
            check_ranges(scores, declared, str(folder / "scores.parquet"))
            stated = scores.attrs.get("prompts")
            if stated is not None and prompts.setdefault("prompts", stated) != stated:
                raise NotMade(
                    f"{folder / 'scores.parquet'}: is of other prompts than {first / 'scores.parquet'}; one of them is "
                    f"another study's, so make it again"
                )
            first = folder if first == Path() else first
            tables.append(performance(scores, model, scorer))
            if about := scores.attrs.get("sources"):
                sources[f"{scorer}/{model}"] = json.loads(about)
    return pd.concat(tables, ignore_index=True), sources, prompts


@dataclass(frozen=True)
class Detail:
    """A map or marks, as they are stored.

    Attributes:
        prompt_id, seed, output: whose.
        values: float32 [height, width] of a map, [words] of marks.
        words: the prompt's words; empty for a map.
    """

    prompt_id: str
    seed: int | None
    output: str
    values: np.ndarray
    words: Sequence[str] = ()


def details_table(kind: str, details: Sequence[Detail]) -> pa.Table:
    """Lay out maps or marks (`kind`, as in `Output`) as a table."""
    schema = FILES[kind][1]
    columns = {
        name: [getattr(detail, name) for detail in details] for name in ("prompt_id", "seed", "output")
    }
    if kind == "map":
        columns["height"] = [detail.values.shape[0] for detail in details]
        columns["width"] = [detail.values.shape[1] for detail in details]
    else:
        columns["words"] = [list(detail.words) for detail in details]
    columns["values"] = [np.asarray(detail.values, np.float32).reshape(-1) for detail in details]
    return pa.table({name: columns[name] for name in schema.names}, schema)


def read_details(path: Path | str, prompt_ids: Collection[str] | None = None) -> list[Detail]:
    """Read a file of maps or marks, of some prompts where `prompt_ids` says which, its checksums verified.

    Raises:
        UserError: the file is absent or corrupt.
    """
    table = read_parquet(path, "maps or marks")
    if prompt_ids is not None:
        table = table.filter(pc.is_in(table.column("prompt_id"), pa.array(list(prompt_ids), pa.string())))

    def detail(row: Section) -> Detail:
        shape = (row["height"], row["width"]) if "height" in row else -1
        values = np.array(row["values"], np.float32).reshape(shape)
        return Detail(row["prompt_id"], row["seed"], row["output"], values, row.get("words", ()))

    return [detail(row) for row in table.to_pylist()]
