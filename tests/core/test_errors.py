"""Messages are one line of bounded length, whatever they quote."""

from promptroute.core.errors import LONGEST, UserError


def test_quotes_other_peoples_text() -> None:
    message = str(UserError("cache/é: '\x1b[31m\n\u202e' is no name"))
    assert message == r"cache/é: '\x1b[31m \u202e' is no name"


def test_keeps_both_ends_of_a_long_one() -> None:
    message = str(UserError(f"a: {'x' * 10_000}; fix it"))
    assert message.startswith("a: xx") and message.endswith("xx; fix it") and len(message) <= LONGEST + 3
