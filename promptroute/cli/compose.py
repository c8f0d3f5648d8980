"""`promptroute compose`: the parameters of a study from its configuration."""

from typing import Annotated

import typer

OVERRIDES = typer.Argument(help="what differs from conf/config.yaml, as predictor=ridge", metavar="OVERRIDE")


def compose(overrides: Annotated[list[str] | None, OVERRIDES] = None) -> None:
    """Compose conf/ of the current folder into params.yaml, and run nothing."""
    from promptroute.core.errors import UserError
    from promptroute.runtime.compose import compose_params

    try:
        print(compose_params(*(overrides or [])))
    except ImportError as error:
        raise UserError(
            f"composing needs a library that is not installed ({error.name}); pip install 'promptroute[pipeline]'"
        ) from error
