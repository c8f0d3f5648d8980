"""`promptroute agreement`: how far the people who rated a table agree."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promptroute.core.errors import UserError
from promptroute.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Literal["nominal", "ordinal", "interval"]
FILE = typer.Argument(help="table of ratings, csv or tsv, a row a rating", metavar="FILE")
UNIT = typer.Option(
    "--unit", "-u", metavar="COLUMN", help="column that says what was rated, again for each (item, model)"
)
RATER = typer.Option("--rater", metavar="COLUMN", help="column that says who rated it")
VALUE = typer.Option("--value", "-v", metavar="COLUMN", help="column of the rating; empty is a gap")
LEVEL = typer.Option("--level", help="what a difference between ratings means")
RESAMPLES = typer.Option("--resamples", help="bootstrap resamples behind each 95 % interval", min=0)
SEED = typer.Option("--seed", help="of the resamples", min=0)
JSON = typer.Option("--json", help="print JSON, for programs")


def agreement(
    file: Annotated[Path, FILE],
    unit: Annotated[list[str], UNIT],
    value: Annotated[str, VALUE],
    rater: Annotated[str, RATER] = "rater",
    level: Annotated[Level, LEVEL] = "ordinal",
    resamples: Annotated[int, RESAMPLES] = 1000,
    seed: Annotated[int, SEED] = 0,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Print Krippendorff's alpha, Fleiss' and Cohen's kappa of a table of ratings, with 95 % intervals."""
    from dataclasses import asdict

    import pandas as pd

    from promptroute.core.text import number
    from promptroute.evaluation.agreement import rater_agreement
    from promptroute.io.delimited import read_delimited

    columns = [*unit, rater, value]
    try:
        raw = read_delimited(file.read_bytes(), str(file), columns)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; give a table of ratings") from error
    ratings = [None if not text.strip() else number(text, raw.attrs["decimal"]) for text in raw[value]]
    for line, text, rating in zip(raw.index, raw[value], ratings, strict=True):
        if rating is None and text.strip():
            raise UserError(
                f"{file}: line {line}: {value} {text!r} is not a number; give a number, or nothing for a gap"
            )
    named = pd.DataFrame(
        {"unit": raw[unit].agg(_together, axis=1), "rater": raw[rater], "value": ratings}
    ).dropna()
    if named.empty:
        raise UserError(f"{file}: holds no rating; expected at least two of a unit")
    if not named.duplicated("unit").any():
        raise UserError(
            f"{file}: no unit was rated twice; expected at least two ratings of a unit, as of two raters"
        )
    found = rater_agreement(named, level, seed=seed, resamples=resamples)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(f"{found.ratings} ratings of {found.units} units by {found.raters} raters")
    for name, figure in found.figures.items():
        print(f"{name.replace('_', ' '):16} {figure.estimate:6.3f}  [{figure.low:.3f}, {figure.high:.3f}]")
    for pair, kappa in found.cohen_kappa.items():
        print(f"cohen kappa      {kappa:6.3f}  {one_line(pair)}")


def _together(cells: "Sequence[str]") -> str:
    """Write the cells that name a unit as one: no two lists of cells give the same."""
    return " ".join(cells) if len(cells) == 1 else " / ".join(cell.replace("/", "//") for cell in cells)
