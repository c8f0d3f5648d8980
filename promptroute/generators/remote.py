"""Requests to a service, at its pace, and again where they fail."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Lock

from promptroute.core.errors import UserError
from promptroute.generators.base import Generated, RemoteGenerator

_log = logging.getLogger(__name__)


class Paced:
    """A remote generator, called at most `rate` times a second, and up to `retries` times again where it raises.

    A `Failure` is an answer, and a `UserError` (as a wrong key) stays wrong, so neither is asked for again.

    Args:
        generator: what is called.
        clock, sleep: seconds, for tests.
    """

    def __init__(
        self,
        generator: RemoteGenerator,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.generator, self._clock, self._sleep = generator, clock, sleep
        self._next = 0.0
        self._lock = Lock()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """Generate one batch; see `Generator.generate`.

        Raises:
            Exception: what the last try raised.
        """
        turn = 0
        while True:
            self._wait_for_turn()
            try:
                return self.generator.generate(prompts, seeds)
            except UserError:
                raise
            except Exception as error:
                if turn == self.generator.retries:
                    raise
                _log.info("a request failed and is sent again: %s", error)
            self._sleep(2.0**turn)
            turn += 1

    def _wait_for_turn(self) -> None:
        if self.generator.rate is None:
            return
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + 1 / self.generator.rate
        self._sleep(start - now)
