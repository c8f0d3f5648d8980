"""Requests that are predicted together."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from promptroute.service.batching import Batcher
from promptroute.service.errors import ApiError
from promptroute.service.limits import Limits


class Slow:
    """Predicts the length of each prompt, once `go` is set; remembers the batches. "bad" can't be predicted."""

    def __init__(self) -> None:
        self.go, self.batches = threading.Event(), list[list[str]]()

    def __call__(self, prompts: Sequence[str]) -> list[int]:
        assert threading.current_thread() is not threading.main_thread()
        self.batches.append(list(prompts))
        assert self.go.wait(10)
        if "bad" in prompts:
            raise ZeroDivisionError("bad")
        return [len(prompt) for prompt in prompts]


def make(slow: Slow, **limits: Any) -> Batcher[int]:
    return Batcher(slow, Limits(**{"characters": 1, "request": 100, **limits}))


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **given: Any) -> None:
        asyncio.run(test(*arguments, **given))

    return run


async def asked(batcher: Batcher[int], *requests: list[str]) -> list[asyncio.Task[list[int]]]:
    tasks = [asyncio.create_task(batcher.predict(prompts)) for prompts in requests]
    await asyncio.sleep(0.05)
    return tasks


class TestBatches:
    @in_loop
    async def test_next_batch(self) -> None:
        slow = Slow()
        batcher = make(slow, prompts=4)
        tasks = await asked(batcher, ["a"])
        tasks += await asked(batcher, ["bb", "ccc"], ["dddd"], ["e", "f"], ["g"])
        assert (batcher.waiting, batcher.backlog) == (6, 12)
        slow.go.set()
        assert await asyncio.gather(*tasks) == [[1], [2, 3], [4], [1, 1], [1]]
        assert slow.batches == [["a"], ["bb", "dddd", "e", "g"], ["ccc", "f"]]
        assert (batcher.waiting, batcher.backlog) == (0, 0)
        assert await batcher.predict(["again"]) == [5]
        batcher.close()

    @in_loop
    async def test_short_before_large(self) -> None:
        slow = Slow()
        slow.go.set()
        batcher = make(slow, prompts=4)
        large, short = await asked(batcher, [f"large {i}" for i in range(40)], ["short"])
        assert await short == [5] and len(await large) == 40
        assert "short" in slow.batches[0] + slow.batches[1] and len(slow.batches) == 11

    @in_loop
    async def test_clients_take_turns(self) -> None:
        """A client's hundred requests keep another's single one waiting no longer than one would."""
        slow = Slow()
        batcher = make(slow, prompts=4, request=500, characters=9)
        (first,) = await asked(batcher, ["a"])
        many = [asyncio.create_task(batcher.predict([f"many {i:02}"], "10.0.0.1")) for i in range(40)]
        await asyncio.sleep(0.05)
        one, two = (asyncio.create_task(batcher.predict(["one", "more"], ip)) for ip in ("::1", "::2"))
        await asyncio.sleep(0.05)
        slow.go.set()
        assert await one == await two == [3, 4] and await first == [1]
        assert (
            slow.batches[1:4]
            == [
                ["many 00", "one", "one", "many 01"],
                ["more", "more", "many 02", "many 03"],
                [f"many {i:02}" for i in range(4, 8)],
            ][: len(slow.batches) - 1]
        )
        assert await asyncio.gather(*many) == [[7]] * 40

    @in_loop
    async def test_characters(self) -> None:
        slow = Slow()
        slow.go.set()
        batcher = make(slow, batch=10, prompts=9)
        (task,) = await asked(batcher, ["x" * 4] * 3 + ["y" * 25, "z"])
        assert await task == [4, 4, 4, 25, 1]
        assert [len("".join(batch)) for batch in slow.batches] == [8, 4, 25, 1]

    @in_loop
    async def test_faults_apart(self) -> None:
        slow = Slow()
        batcher = make(slow, prompts=10)
        (first,) = await asked(batcher, ["a"])
        good, bad, other = await asked(batcher, ["bb"], ["bad"], ["ccc", "d"])
        slow.go.set()
        assert (await good, await other, await first) == ([2], [3, 1], [1])
        with pytest.raises(ZeroDivisionError):
            await bad
        assert await batcher.predict(["still"]) == [5]

    @in_loop
    async def test_failed_request_ends(self) -> None:
        """A request with a fault in its first batch is not predicted further."""
        slow = Slow()
        slow.go.set()
        batcher = make(slow, prompts=2)
        with pytest.raises(ZeroDivisionError):
            await batcher.predict(["bad"] + ["x"] * 50)
        await asyncio.sleep(0.05)
        assert len(slow.batches) <= 2 and batcher.waiting == 0


class TestQueue:
    @pytest.mark.parametrize("limits", [{"waiting": 3, "prompts": 3}, {"backlog": 6, "request": 6}])
    @in_loop
    async def test_full(self, limits: dict[str, int]) -> None:
        slow = Slow()
        batcher = make(slow, **limits)
        (first,) = await asked(batcher, ["a"])
        waiting = await asked(batcher, ["bb"], ["ccc"])
        with pytest.raises(ApiError, match="try again") as caught:
            await batcher.predict(["d", "e"])
        assert caught.value.status == 503
        slow.go.set()
        assert await first == [1] and await asyncio.gather(*waiting) == [[2], [3]]

    @in_loop
    async def test_nobody_waits(self) -> None:
        """What a client that went away asked is not predicted, and costs nobody else an answer."""
        slow = Slow()
        batcher = make(slow, prompts=2)
        (first,) = await asked(batcher, ["a"])
        lost, kept = await asked(batcher, ["lost"] * 20, ["kept"])
        lost.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        slow.go.set()
        assert (await first, await kept) == ([1], [4])
        assert slow.batches == [["a"], ["kept"]]

    @in_loop
    async def test_cancelled_midway(self) -> None:
        slow = Slow()
        batcher = make(slow, prompts=2)
        (lost,) = await asked(batcher, ["lost"] * 20)
        lost.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 0
        slow.go.set()
        assert await batcher.predict(["kept"]) == [4]
        assert slow.batches == [["lost", "lost"], ["kept"]]
