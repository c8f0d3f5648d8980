"""Batches survive a full memory and an item that can't be done."""

import threading
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.runtime.batching import Failure, in_batches


@given(st.lists(st.integers()), st.integers(1, 7), st.integers(1, 9), st.integers(1, 3))
def test_results_keep_the_order(items: list[int], size: int, room: int, concurrent: int) -> None:
    sizes: list[int] = []

    def process(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [item * 2 for item in batch]

    with mock.patch(
        "promptroute.runtime.batching.free_memory"
    ):  # collecting garbage is slow, hundreds of times
        assert list(in_batches(items, process, size, concurrent)) == [(item, item * 2) for item in items]
    tries = 1 if concurrent == 1 else concurrent + 1  # at once, and then once more alone
    assert sizes.count(size) <= tries or size <= room, "a size that did not fit is not tried again"


def test_batches_run_at_once() -> None:
    together = threading.Barrier(3, timeout=20)

    def process(batch: list[int]) -> list[int]:
        together.wait()  # passes once three batches are under way
        return [-item for item in batch]

    assert list(in_batches(range(12), process, 2, concurrent=3)) == [(item, -item) for item in range(12)]


def test_full_memory(caplog: pytest.LogCaptureFixture) -> None:
    both, sizes = threading.Barrier(2, timeout=20), []

    def process(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(sizes) <= 2 and both.wait() == 0:  # one of the first two, whichever
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [item + 1 for item in batch]

    assert list(in_batches(range(9), process, 3, concurrent=2)) == [(item, item + 1) for item in range(9)]
    assert set(sizes) == {3}, "no batch was halved"
    assert caplog.messages == ["out of memory with 2 batches at once: going on with one"]


@pytest.mark.parametrize("concurrent", [1, 2])
def test_only_the_faulty_item_fails(concurrent: int) -> None:
    def process(batch: list[int]) -> list[float]:
        return [1 / item for item in batch]

    results = dict(in_batches([1, 0, 2, 4], process, 3, concurrent))
    assert results == {1: 1.0, 0: Failure("ZeroDivisionError: division by zero"), 2: 0.5, 4: 0.25}


def test_item_that_never_fits() -> None:
    def process(batch: list[int]) -> list[int]:
        raise MemoryError

    assert list(in_batches([1, 2], process, 2)) == [(1, Failure("MemoryError")), (2, Failure("MemoryError"))]


@pytest.mark.parametrize("concurrent", [1, 2])
def test_user_error_stops(concurrent: int) -> None:
    def process(batch: list[int]) -> list[int]:
        raise UserError("no such model")

    with pytest.raises(UserError, match="no such model"):
        list(in_batches([1, 2], process, 2, concurrent))


@pytest.mark.parametrize("concurrent", [1, 2])
def test_user_error_passes(concurrent: int) -> None:
    def process(batch: list[int]) -> list[int]:
        raise UserError("the model can't be loaded (CUDA out of memory)")

    with pytest.raises(UserError, match="can't be loaded"):
        list(in_batches([1, 2], process, 2, concurrent))


@pytest.mark.parametrize("concurrent", [1, 2])
def test_failing_item_is_tried_once(concurrent: int) -> None:
    tried = []

    def process(batch: list[int]) -> list[int]:
        tried.extend(batch)
        raise ValueError("no")

    assert list(in_batches([1, 2], process, 1, concurrent)) == [
        (item, Failure("ValueError: no")) for item in (1, 2)
    ]
    assert sorted(tried) == [1, 2]


def test_invalid_size() -> None:
    with pytest.raises(UserError, match="batch_size is 0"):
        list(in_batches([1], lambda batch: batch, 0))
    with pytest.raises(UserError, match="concurrent is 0"):
        list(in_batches([1], lambda batch: batch, 1, concurrent=0))


def test_lost_results() -> None:
    with pytest.raises(RuntimeError, match="1 results for a batch of 2"):
        list(in_batches([1, 2], lambda batch: [0], 2))
