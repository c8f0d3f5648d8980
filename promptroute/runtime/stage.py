"""How a stage starts and fails."""

import sys
from collections.abc import Callable

from promptroute.core.errors import UserError


def run_stage(main: Callable[[], str | None]) -> None:
    """Run a stage: print its one summary line, or one clear error and exit with status 1.

    Args:
        main: does the work and returns the line to print. A `UserError` is somebody's mistake, so its
            message alone is shown; anything else is ours, so the traceback stays.
    """
    try:
        line = main()
    except UserError as error:
        # One line, whatever a library's message that ours quotes holds.
        print("error:", " ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        raise SystemExit(1) from None
    if line:
        print(line)
