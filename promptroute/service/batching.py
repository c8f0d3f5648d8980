"""Prompts of many requests through the predictor together, away from the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from promptroute.service.errors import ApiError
from promptroute.service.limits import Limits

Row = TypeVar("Row")


@dataclass(eq=False)
class _Request(Generic[Row]):
    """Prompts that a client waits for, and the rows that they have so far."""

    prompts: Sequence[str]
    future: "asyncio.Future[list[Row]]"
    taken: int = 0
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if len(self.rows) == len(self.prompts) and not self.future.done():
            self.future.set_result(self.rows)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Batcher(Generic[Row]):
    """One prediction runs at a time, on a thread of its own; what arrives meanwhile forms the next batch.

    Nothing waits for company: a lone request is predicted at once, and batches grow with the load up to
    `limits.prompts` and `limits.batch` characters. The clients take turns, a prompt at a time, and so do the
    requests of each, so a short request ends in the next batch however large and many those before it are. How
    many threads one prediction uses is torch's and BLAS's setting.

    Args:
        predict: prompts → a row for each, which depends on its own prompt alone.
        limits: how much goes together, and how much may wait.
    """

    def __init__(self, predict: Callable[[Sequence[str]], Sequence[Row]], limits: Limits) -> None:
        self._predict, self._limits = predict, limits
        self._queue: dict[str, deque[_Request[Row]]] = {}  # client → its requests; who is next stands first
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")

    @property
    def waiting(self) -> int:
        """Prompts that wait, without those being predicted."""
        return sum(len(request.prompts) - request.taken for request in self._requests)

    @property
    def backlog(self) -> int:
        """Characters that wait, without those being predicted."""
        return sum(len(text) for request in self._requests for text in request.prompts[request.taken :])

    @property
    def _requests(self) -> list[_Request[Row]]:
        return [request for requests in self._queue.values() for request in requests]

    async def predict(self, prompts: Sequence[str], client: str = "") -> list[Row]:
        """Give the prompts' rows; where the caller is cancelled, what it still waits for is dropped.

        Args:
            prompts: one or more.
            client: who asks, as an address.

        Raises:
            ApiError: 503, too much is waiting already.
        """
        size = sum(map(len, prompts))
        if self.waiting + len(prompts) > self._limits.waiting or self.backlog + size > self._limits.backlog:
            raise ApiError(503, "too many prompts are waiting; try again in a second", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        request = _Request[Row](prompts, loop.create_future())
        self._queue.setdefault(client, deque()).append(request)
        if self._task is None:
            self._task = loop.create_task(self._run())
        try:
            return await request.future
        finally:
            if request in (own := self._queue.get(client, ())):  # nobody waits for the rest
                own.remove(request)  # type: ignore[union-attr]
                if not own:
                    del self._queue[client]

    async def _run(self) -> None:
        while self._queue:
            await self._settle(self._take())
        self._task = None

    def _take(self) -> list[tuple[_Request[Row], str]]:
        """Take the next batch: a prompt of each client in turn, as long as there is room."""
        batch: list[tuple[_Request[Row], str]] = []
        room = self._limits.batch
        while self._queue and len(batch) < self._limits.prompts:
            client, own = next(iter(self._queue.items()))
            request = own[0]
            text = request.prompts[request.taken]
            if batch and len(text) > room:
                break
            batch.append((request, text))
            room -= len(text)
            request.taken += 1
            own.popleft()
            if request.taken < len(request.prompts):
                own.append(request)
            del self._queue[client]
            if own:
                self._queue[client] = own
        return batch

    async def _settle(self, batch: list[tuple[_Request[Row], str]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._thread, self._predict, [text for _, text in batch])
        except Exception as error:
            requests = {id(request): request for request, _ in batch}.values()
            if len(requests) == 1:
                batch[0][0].fail(error)
            else:  # each alone, so that a request's fault is not another's
                for request in requests:
                    await self._settle([pair for pair in batch if pair[0] is request])
            return
        for (request, _), row in zip(batch, rows, strict=True):
            request.add(row)

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._thread.shutdown(wait=False)
