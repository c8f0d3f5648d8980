"""Batches survive a full memory and an item that can't be done."""

import threading
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptroute.core.errors import UserError
from promptroute.runtime.batching import Failure, in_batches


@given(st.lists(st.integers()), st.integers(1, 7), st.integers(1, 9), st.integers(1, 3))
def test_every_item_gets_its_own_result_in_order_whatever_fits(
    items: list[int], size: int, room: int, lanes: int
) -> None:
    sizes: list[int] = []

    def process(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [item * 2 for item in batch]

    with mock.patch(
        "promptroute.runtime.batching.free_memory"
    ):  # collecting garbage is slow, hundreds of times
        assert list(in_batches(items, process, size, lanes)) == [(item, item * 2) for item in items]
    tries = 1 if lanes == 1 else lanes + 1  # side by side, and then once more alone
    assert sizes.count(size) <= tries or size <= room, "a size that did not fit is not tried again"


def test_lanes_are_worked_on_side_by_side_and_given_in_order() -> None:
    together = threading.Barrier(3, timeout=20)

    def process(batch: list[int]) -> list[int]:
        together.wait()  # passes once three batches are under way
        return [-item for item in batch]

    assert list(in_batches(range(12), process, 2, lanes=3)) == [(item, -item) for item in range(12)]


def test_a_memory_that_holds_one_batch_leaves_one_lane(capsys: pytest.CaptureFixture[str]) -> None:
    both, sizes = threading.Barrier(2, timeout=20), []

    def process(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(sizes) <= 2 and both.wait() == 0:  # one of the first two, whichever
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [item + 1 for item in batch]

    assert list(in_batches(range(9), process, 3, lanes=2)) == [(item, item + 1) for item in range(9)]
    assert set(sizes) == {3}, "no batch was halved"
    assert capsys.readouterr().err == "out of memory with 2 batches at once: going on with one\n"


@pytest.mark.parametrize("lanes", [1, 2])
def test_only_the_item_at_fault_fails(lanes: int) -> None:
    def process(batch: list[int]) -> list[float]:
        return [1 / item for item in batch]

    results = dict(in_batches([1, 0, 2, 4], process, 3, lanes))
    assert results == {1: 1.0, 0: Failure("ZeroDivisionError: division by zero"), 2: 0.5, 4: 0.25}


def test_an_item_that_never_fits_fails_with_its_reason() -> None:
    def process(batch: list[int]) -> list[int]:
        raise MemoryError

    assert list(in_batches([1, 2], process, 2)) == [(1, Failure("MemoryError")), (2, Failure("MemoryError"))]


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_a_person_did_wrong_stops_everything(lanes: int) -> None:
    def process(batch: list[int]) -> list[int]:
        raise UserError("no such model")

    with pytest.raises(UserError, match="no such model"):
        list(in_batches([1, 2], process, 2, lanes))


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_a_person_did_wrong_is_no_full_memory_whatever_it_says(lanes: int) -> None:
    def process(batch: list[int]) -> list[int]:
        raise UserError("the model can't be loaded (CUDA out of memory)")

    with pytest.raises(UserError, match="can't be loaded"):
        list(in_batches([1, 2], process, 2, lanes))


@pytest.mark.parametrize("lanes", [1, 2])
def test_an_item_that_fails_alone_is_tried_once(lanes: int) -> None:
    tried = []

    def process(batch: list[int]) -> list[int]:
        tried.extend(batch)
        raise ValueError("no")

    assert list(in_batches([1, 2], process, 1, lanes)) == [
        (item, Failure("ValueError: no")) for item in (1, 2)
    ]
    assert sorted(tried) == [1, 2]


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size is 0"):
        list(in_batches([1], lambda batch: batch, 0))
    with pytest.raises(UserError, match="lanes is 0"):
        list(in_batches([1], lambda batch: batch, 1, lanes=0))


def test_a_process_that_loses_results_is_a_fault_of_ours() -> None:
    with pytest.raises(RuntimeError, match="1 results for a batch of 2"):
        list(in_batches([1, 2], lambda batch: [0], 2))
