"""`promptroute evaluate`: until the evaluation is the library's, the stage of the project in the current folder."""

import runpy
import sys
from typing import Annotated

import typer


def evaluate(
    arguments: Annotated[list[str] | None, typer.Argument(help="arguments of the stage")] = None,
    show: Annotated[bool, typer.Option("--show", help="print the table of the last evaluation")] = False,
) -> None:
    """Evaluate the trained router."""
    sys.argv = ["stages.evaluate", *(["--show"] if show else []), *(arguments or [])]
    sys.path.insert(0, "")
    runpy.run_module("stages.evaluate", run_name="__main__")
