"""How much one caller may ask for."""

from dataclasses import dataclass, fields

from promptroute.core.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how much may wait. Each is 1 or more.

    Attributes:
        prompts: prompts a request.
        characters: characters a prompt.
        body: bytes a request's body.
        waiting: prompts of all requests that wait for the predictor; beyond it a request is told to come
            back later. At least `prompts`.
        seconds: time for a request's body to arrive.
    """

    prompts: int = 256
    characters: int = 2000
    body: int = 1 << 20
    waiting: int = 4096
    seconds: float = 10.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if (value := getattr(self, one.name)) < 1:
                raise UserError(f"the limit {one.name} is {value}; expected 1 or more")
        if self.waiting < self.prompts:
            raise UserError(
                f"only {self.waiting} prompts may wait, but one request may bring {self.prompts}; raise the former"
            )
