"""Errors for people."""


class UserError(ValueError):
    """Something that a person gave us is wrong. The message names it, what was expected, and the fix."""


def reason(error: BaseException | None) -> str:
    """Return an error's kind and the first line of its message, to quote in a message of our own."""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
