"""Prompts of many requests through the predictor together, away from the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from promptroute.service.errors import ApiError

Predict = Callable[[Sequence[str]], np.ndarray]
_Waiting = tuple[list[str], "asyncio.Future[np.ndarray]"]


class Batcher:
    """One prediction runs at a time, on a thread of its own; what arrives meanwhile forms the next batch.

    Nothing waits for company: a lone request is predicted at once, and batches grow with the load. How many
    threads one prediction uses is torch's and BLAS's setting.

    Args:
        predict: prompts → float64 [n, m]; a row depends on its own prompt alone.
        together: prompts a batch, unless a single request brings more.
        waiting: prompts that may wait.
    """

    def __init__(self, predict: Predict, together: int, waiting: int) -> None:
        self._predict, self._together, self._most = predict, together, waiting
        self._queue: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")

    @property
    def waiting(self) -> int:
        """Prompts that wait, without those being predicted."""
        return sum(len(prompts) for prompts, _ in self._queue)

    async def predict(self, prompts: list[str]) -> np.ndarray:
        """Predicted quality, float64 [n, m].

        Raises:
            ApiError: 503, too much is waiting already.
        """
        if self.waiting + len(prompts) > self._most:
            raise ApiError(503, "too many prompts are waiting; try again in a second", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        future: asyncio.Future[np.ndarray] = loop.create_future()
        self._queue.append((prompts, future))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._queue:
            await self._settle(self._take())
        self._task = None

    async def _settle(self, batch: list[_Waiting]) -> None:
        texts = [text for prompts, _ in batch for text in prompts]
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, texts)
        except Exception as error:
            if len(batch) > 1:  # each alone, so that one request's fault is not another's
                for one in batch:
                    await self._settle([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        start = 0
        for prompts, future in batch:
            if not future.done():
                future.set_result(rows[start : start + len(prompts)])
            start += len(prompts)

    def _take(self) -> list[_Waiting]:
        batch = [self._queue.popleft()]
        size = len(batch[0][0])
        while self._queue and size + len(self._queue[0][0]) <= self._together:
            batch.append(self._queue.popleft())
            size += len(batch[-1][0])
        return batch

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._thread.shutdown(wait=False)
