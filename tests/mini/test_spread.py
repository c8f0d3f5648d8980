"""Things made by several workers come in the order of their keys."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mini.settings import FILE
from mini.spread import chosen_executor, in_order
from promptroute.core.errors import UserError
from promptroute.runtime.executors import Executor, InProcess, Threads


class Shuffled(Executor):
    """Does shards in an order of its own."""

    def map(self, work: Callable[[Any], Any], shards: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for shard in random.Random(0).sample(list(shards), len(shards)):
            yield shard, work(shard)


def cube(number: int) -> int:
    return number**3


@pytest.mark.parametrize("executor", [None, InProcess(), Threads(workers=2), Shuffled()])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_order(executor: Executor | None, count: int) -> None:
    assert list(in_order(cube, range(count), executor=executor, chunk=2)) == [n**3 for n in range(count)]


def test_processes() -> None:
    assert list(in_order(cube, range(5), workers=2)) == [0, 1, 8, 27, 64]


def test_chosen(tmp_path: Path) -> None:
    assert chosen_executor() is None  # no such file
    FILE.parent.mkdir(parents=True)
    FILE.write_text("compute: {device: auto}")
    assert chosen_executor() is None
    FILE.write_text("compute: {executor: {_target_: promptroute.runtime.executors.Threads, workers: 3}}")
    assert chosen_executor() == Threads(workers=3)
    FILE.write_text("compute: {executor: {_target_: promptroute.runtime.executors.Threads, workers: 0}}")
    with pytest.raises(UserError, match=r"mini/pipeline/params.yaml: compute.executor.workers is 0"):
        chosen_executor()
