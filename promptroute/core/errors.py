"""Errors for people."""

import os
import sys
from types import TracebackType

from promptroute.core.text import one_line

LONGEST = 2000  # characters of a message


class UserError(ValueError):
    """Something that a person gave us is wrong. The message names it, what was expected, and the fix.

    What it quotes may be other people's: it becomes one line of bounded length, its control characters escaped, so that
    it can't forge a line of a log or steer a terminal.
    """

    def __init__(self, message: object = "") -> None:
        text = one_line(str(message))
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        super().__init__(text)


CORRUPT = (OSError, KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError)
"""What reading a file that is not what it should be may raise; a library's own errors come besides."""


class NotMade(UserError):
    """A file that a stage makes is absent, or not what it wrote. The message ends with that it be made again; whoever
    knows how stages are run says it there."""


def quiet_interrupts() -> None:
    """Let Ctrl-C end a program without a traceback, also while it still imports; its status stays.

    Standard streams that are closed (`<&-`, `>&-`), which Python leaves out, become empty ones.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


def reason(error: BaseException | None) -> str:
    """Return an error's kind and the first line of its message, to quote in a message of our own."""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
