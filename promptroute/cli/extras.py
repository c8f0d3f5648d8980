"""What a bare `pip install promptroute` leaves out."""

import contextlib
from collections.abc import Iterator

from promptroute.core.errors import UserError


@contextlib.contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Say which extra to install where something imported in this block is absent; `what` needs it."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{what} needs a library that is not installed ({error.name}); pip install 'promptroute[{extra}]'"
        ) from error
