"""Names of models, scorers and encoders, which are keys, paths and stage names at once."""

import re
from collections.abc import Iterable

from promptroute.core.errors import UserError

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
SCORER_NAME = re.compile(r"[a-z0-9_]+")


def check_names(names: Iterable[str], pattern: re.Pattern[str], what: str) -> None:
    """Refuse names that can't be keys, paths and stage names at once.

    Raises:
        UserError: naming the first bad name and the pattern it must match.
    """
    for name in names:
        if not isinstance(name, str) or not pattern.fullmatch(name):
            raise UserError(f"{what} {name!r} can't be used: a name must match {pattern.pattern}; rename it")
