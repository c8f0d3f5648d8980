"""A remote generator is asked at its pace, and again where a request fails."""

from collections.abc import Sequence

import pytest
from pydantic import PrivateAttr

from promptroute.core.errors import UserError
from promptroute.generators.base import Generated, RemoteGenerator
from promptroute.generators.remote import Paced
from promptroute.runtime.batching import Failure


class Service(RemoteGenerator):
    """Raises so many times, then answers with bytes."""

    errors: int = 0
    error: type[Exception] = ConnectionError
    _asked: list[int] = PrivateAttr(default_factory=list)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        self._asked.append(len(prompts))
        if len(self._asked) <= self.errors:
            raise self.error("busy")
        return [b"x" if prompt else Failure("empty") for prompt in prompts]


class Time:
    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def paced(**settings: object) -> tuple[Service, Time, Paced]:
    service, time = Service(**settings), Time()
    return service, time, Paced(service, time.clock, time.sleep)


def test_asks_again_ever_later() -> None:
    service, time, calls = paced(errors=3)
    assert calls.generate(["a"], [0]) == [b"x"]
    assert service._asked == [1] * 4 and time.slept == [1, 2, 4]


def test_gives_up() -> None:
    service, _, calls = paced(errors=9, retries=1)
    with pytest.raises(ConnectionError):
        calls.generate(["a"], [0])
    assert len(service._asked) == 2


def test_answers_are_final() -> None:
    service, _, calls = paced()
    assert calls.generate(["a", ""], [0, 1]) == [b"x", Failure("empty")]
    wrong, _, calls = paced(errors=9, error=UserError)
    with pytest.raises(UserError):
        calls.generate(["a"], [0])
    assert len(service._asked) == len(wrong._asked) == 1


def test_rate() -> None:
    _, time, calls = paced(rate=4.0)
    for _ in range(3):
        calls.generate(["a"], [0])
    assert time.now == pytest.approx(0.5)
    assert Service().fingerprint() == Service(rate=1.0, retries=0, requests=9).fingerprint()
