"""What a caller did wrong, in one sentence."""

from collections.abc import Mapping


class ApiError(Exception):
    """A request that is answered with a 4xx (or 503) and one sentence.

    Attributes:
        status: of the answer.
        message: names what is wrong and what was expected.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
