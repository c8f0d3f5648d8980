"""How much one caller, and all callers together, may ask for."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from promptroute.core.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how much may wait. Each is 1 or more.

    What a prediction takes grows with the length of the texts, so work is bounded by characters.

    Attributes:
        prompts: prompts of a request, and of a batch.
        characters: characters of a prompt.
        request: characters of a request's prompts together. At least `characters`.
        batch: characters that are predicted together; a request that comes meanwhile waits for so many.
        body: bytes of a request's body.
        waiting: prompts of all requests that wait for the predictor; beyond it a request is told to come
            back later. At least `prompts`.
        backlog: characters of all requests that wait. At least `request`.
        seconds: time for a request's body to arrive.
        header_seconds: time for a request's headers to arrive.
        connections: open connections; beyond it those that have asked nothing yet make room.
    """

    prompts: int = 256
    characters: int = 2000
    request: int = 65_536
    batch: int = 8192
    body: int = 1 << 20
    waiting: int = 4096
    backlog: int = 262_144
    seconds: float = 10.0
    header_seconds: float = 10.0
    connections: int = 512

    def __post_init__(self) -> None:
        for limit in fields(self):
            if (value := getattr(self, limit.name)) < 1:
                raise UserError(f"the limit {limit.name} is {value}; expected 1 or more")
        for larger, smaller, words in (
            (self.waiting, self.prompts, "only {} prompts may wait, but a request may bring {}"),
            (self.backlog, self.request, "only {} characters may wait, but a request may bring {}"),
            (self.request, self.characters, "a request may bring {} characters, but a prompt {}"),
        ):
            if larger < smaller:
                raise UserError(f"{words.format(larger, smaller)}; raise the former")

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse more than a request may bring.

        Raises:
            UserError: too many prompts, or too long ones.
        """
        if len(prompts) > self.prompts:
            raise UserError(f"{len(prompts)} prompts; at most {self.prompts} a request")
        for place, prompt in enumerate(prompts, 1):
            if len(prompt) > self.characters:
                raise UserError(
                    f"prompt {place} of {len(prompts)} has {len(prompt)} characters; at most {self.characters}"
                )
        if (size := sum(map(len, prompts))) > self.request:
            raise UserError(f"the prompts have {size} characters together; at most {self.request} a request")
