"""`promptroute compose`: the parameters of a study from its configuration."""

from typing import Annotated

import typer

from promptroute.cli.extras import needs_extra

OVERRIDES = typer.Argument(help="what differs from conf/config.yaml, as predictor=ridge", metavar="OVERRIDE")


def compose(overrides: Annotated[list[str] | None, OVERRIDES] = None) -> None:
    """Compose conf/ of the current folder into params.yaml, and run nothing."""
    from promptroute.runtime.compose import compose_params

    with needs_extra("composing", "pipeline"):
        print(compose_params(*(overrides or [])))
