"""Requests that are predicted together."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from promptroute.service.batching import Batcher
from promptroute.service.errors import ApiError


class Slow:
    """Predicts [length, 1] of each prompt, once `go` is set; remembers the batches. "bad" can't be predicted."""

    def __init__(self) -> None:
        self.go, self.batches = threading.Event(), list[list[str]]()

    def __call__(self, prompts: Sequence[str]) -> np.ndarray:
        assert threading.current_thread() is not threading.main_thread()
        self.batches.append(list(prompts))
        assert self.go.wait(10)
        if "bad" in prompts:
            raise ZeroDivisionError("bad")
        return np.array([[len(prompt), 1.0] for prompt in prompts])


async def asked(batcher: Batcher, *requests: list[str]) -> list[asyncio.Task[np.ndarray]]:
    tasks = [asyncio.create_task(batcher.predict(one)) for one in requests]
    await asyncio.sleep(0.05)
    return tasks


def test_what_arrives_meanwhile_forms_the_next_batch_and_everyone_gets_his_rows() -> None:
    async def main() -> None:
        slow = Slow()
        batcher = Batcher(slow, together=4, waiting=100)
        tasks = await asked(batcher, ["a"])
        tasks += await asked(batcher, ["bb", "ccc"], ["dddd"], ["e", "f"], ["g"])
        assert batcher.waiting == 6
        slow.go.set()
        rows = await asyncio.gather(*tasks)
        assert [row[:, 0].tolist() for row in rows] == [[1], [2, 3], [4], [1, 1], [1]]
        assert slow.batches == [["a"], ["bb", "ccc", "dddd"], ["e", "f", "g"]]
        assert batcher.waiting == 0
        assert (await batcher.predict(["again"])).tolist() == [[5, 1]]
        batcher.close()

    asyncio.run(main())


def test_a_request_larger_than_a_batch_goes_alone() -> None:
    async def main() -> None:
        slow = Slow()
        slow.go.set()
        batcher = Batcher(slow, together=2, waiting=100)
        tasks = await asked(batcher, ["a"], ["b", "c", "d"], ["e"])
        assert [len(await task) for task in tasks] == [1, 3, 1]
        assert slow.batches == [["a"], ["b", "c", "d"], ["e"]]

    asyncio.run(main())


def test_one_requests_fault_is_not_anothers() -> None:
    async def main() -> None:
        slow = Slow()
        batcher = Batcher(slow, together=10, waiting=100)
        (first,) = await asked(batcher, ["a"])
        good, bad, other = await asked(batcher, ["bb"], ["bad"], ["ccc"])
        slow.go.set()
        assert (await good)[0, 0] == 2 and (await other)[0, 0] == 3 and (await first)[0, 0] == 1
        with pytest.raises(ZeroDivisionError):
            await bad
        assert (await batcher.predict(["still"]))[0, 0] == 5

    asyncio.run(main())


def test_too_much_waiting_is_refused_and_a_lost_client_costs_nobody_an_answer() -> None:
    async def main() -> None:
        slow = Slow()
        batcher = Batcher(slow, together=10, waiting=3)
        (first,) = await asked(batcher, ["a"])
        lost, kept = await asked(batcher, ["bb"], ["ccc"])
        with pytest.raises(ApiError, match="try again") as caught:
            await batcher.predict(["d", "e"])
        assert caught.value.status == 503
        lost.cancel()
        slow.go.set()
        assert (await first)[0, 0] == 1 and (await kept)[0, 0] == 3

    asyncio.run(main())
