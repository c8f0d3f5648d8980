"""Make the report of a result on disk."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from promptroute.core.rows import Performance, Prompt
from promptroute.io.tables import read_table
from promptroute.report.examples import Example, pick
from promptroute.report.figures import Figure, render
from promptroute.report.images import load_images
from promptroute.report.page import page
from promptroute.report.result import Result, read_result

SCORES = {"nima.mean": "NIMA"}


class Report(NamedTuple):
    """A result with all that is made of it."""

    result: Result
    figures: dict[str, Figure]
    source: str
    examples: list[Example]


def prompts_of(metrics: Path) -> pd.DataFrame:
    """Read the prompts beside a folder of metrics."""
    return read_table(metrics.parent / "data" / "prompts.parquet", Prompt)


def report_of(metrics: Path, note: str = "") -> Report:
    """Render the figures and the page of a result, with images where `write_images` was called."""
    data = metrics.parent / "data"
    result = read_result(metrics / "evaluate.json", data / "evaluation", scores=SCORES, data="toy scores")
    examples = pick(result, prompts_of(metrics))
    models = sorted(path.name for path in (data / "images").glob("*"))
    shown = {example.prompt_id for example in examples}
    images = load_images(data / "images", data / "scores", models, ["nima"], shown)
    performance = read_table(data / "performance.parquet", Performance, ("prompt_id", "model", "score"))
    figures = render(result, performance, examples, images)
    return Report(result, figures, page(result, figures, examples, images, note), examples)
