"""Batches survive a full memory and an item that can't be done."""

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.records import BadInput
from stages.runtime.batching import Failure, in_batches


@given(st.lists(st.integers()), st.integers(1, 7), st.integers(1, 9))
def test_every_item_gets_its_own_result_in_order_whatever_fits(
    items: list[int], size: int, room: int
) -> None:
    sizes = []

    def process(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return [item * 2 for item in batch]

    with mock.patch("stages.runtime.batching.free_memory"):  # collecting garbage is slow, hundreds of times
        assert list(in_batches(items, process, size)) == [(item, item * 2) for item in items]
    assert sizes.count(size) <= 1 or size <= room, "a size that did not fit is not tried again"


def test_only_the_item_at_fault_fails() -> None:
    def process(batch: list[int]) -> list[float]:
        return [1 / item for item in batch]

    results = dict(in_batches([1, 0, 2, 4], process, 3))
    assert results == {1: 1.0, 0: Failure("ZeroDivisionError: division by zero"), 2: 0.5, 4: 0.25}


def test_an_item_that_never_fits_fails_with_its_reason() -> None:
    def process(batch: list[int]) -> list[int]:
        raise MemoryError

    assert list(in_batches([1, 2], process, 2)) == [(1, Failure("MemoryError")), (2, Failure("MemoryError"))]


def test_what_a_person_did_wrong_stops_everything() -> None:
    def process(batch: list[int]) -> list[int]:
        raise BadInput("no such model")

    with pytest.raises(BadInput, match="no such model"):
        list(in_batches([1, 2], process, 2))
    with pytest.raises(BadInput, match="batch_size is 0"):
        list(in_batches([1], process, 0))


def test_a_process_that_loses_results_is_a_fault_of_ours() -> None:
    with pytest.raises(RuntimeError, match="1 results for a batch of 2"):
        list(in_batches([1, 2], lambda batch: [0], 2))
