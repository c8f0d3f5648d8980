"""Command lines, results files and tables that the benchmarks share."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from promptroute.io.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def names(text: str) -> list[str]:
    """Split comma-separated names of a command line."""
    return [part for part in text.split(",") if part]


def numbers(text: str) -> list[int]:
    """Split comma-separated whole numbers of a command line."""
    return [int(part) for part in names(text)]


def options(module: str, about: str | None, quick: str | None = None) -> argparse.ArgumentParser:
    """Make a command line with --table and, if it exists, --quick; each benchmark adds its own options.

    Args:
        module: the benchmark's name.
        about: its docstring.
        quick: what --quick measures, for the help; None: there is no quick try.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", action="store_true", help="only print the table of the results file")
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help=f"{quick}; writes no results")
    return parser


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    results: Path,
    measure: Callable[[argparse.Namespace], Iterable[Mapping[str, Any]]],
    table: Callable[[pd.DataFrame], str],
) -> str:
    """Run a benchmark from its command line: measure and write the results, or with --table only read them.

    Args:
        parser: as `options`.
        arguments: of the command line; None: those of this process.
        results: the CSV file; --quick leaves it as it is.
        measure: chosen options → rows.
        table: rows → the table in Markdown.

    Returns:
        The table.
    """
    chosen = parser.parse_args(arguments)
    if chosen.table:
        return table(pd.read_csv(results))
    return finish(measure(chosen), results, table, quick=getattr(chosen, "quick", False))


def finish(
    rows: Iterable[Mapping[str, Any]],
    results: Path,
    table: Callable[[pd.DataFrame], str],
    quick: bool = False,
) -> str:
    """Write a benchmark's results, unless it was a quick try; return its table."""
    frame = pd.DataFrame([*rows])
    if not quick:
        write_csv(results, frame)
    return table(frame)


def run_rounds(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    results: Path,
    measure: Callable[[bool, int], Iterable[Mapping[str, Any]]],
    table: Callable[[pd.DataFrame], str],
) -> str:
    """Run a benchmark that measures in rounds, as `run`; `measure` takes whether the try is quick, and the rounds."""
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    return run(
        parser,
        arguments,
        results,
        lambda chosen: measure(chosen.quick, 1 if chosen.quick else chosen.rounds),
        table,
    )


def resample_counts(n: int, resamples: int) -> np.ndarray:
    """Return how often each of n prompts is in each bootstrap resample, [1 + resamples, n]; first the prompts themselves."""
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.vstack([np.ones((1, n)), counts])


def write_csv(path: Path, rows: pd.DataFrame) -> None:
    """Write results: six significant digits are more than any figure here means."""
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g")


def spread(values: pd.Series, form: str, unit: float = 1.0) -> str:
    """Format mean ± standard deviation over seeds, and for how many seeds the figure exists unless for all."""
    known = values.dropna()
    if known.empty:
        return "never"
    text = format(unit * known.mean(), form)
    if len(known) > 1:
        text += f" ± {format(unit * known.std(), form.replace('+', ''))}"
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


def speedup(baseline: pd.Series, ours: pd.Series, digits: int, note: str = "") -> str:
    """Format how many times as long the baseline takes: the median over rounds, and (their range and a note)."""
    ratio = baseline / ours
    low, middle, high = (f"{value:.{digits}f}" for value in (ratio.min(), ratio.median(), ratio.max()))
    return f"{middle} × ({low} to {high}{note})"


def cells(rows: pd.DataFrame, line: str) -> list[list[str]]:
    """Fill a line of cells, parted by ` | `, with the columns of each row, as in `{seed} | {gain:+.4f}`."""
    records = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    return [[cell.format(**row) for cell in line.split(" | ")] for row in records]


def markdown(head: str, rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown: the first column is text, the others are figures; ` | ` parts the columns' names."""
    rule = ["---", *["---:"] * head.count(" | ")]
    return "\n".join([f"| {head} |", *(f"| {' | '.join(line)} |" for line in [rule, *rows])])
