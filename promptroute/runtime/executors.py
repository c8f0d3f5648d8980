"""Where shards of work are done: in this process, on threads, or by a class of one's own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from promptroute.core.component import Component

Shard = TypeVar("Shard")


class Executor(Component):
    """Decides where shards of work are done. It decides no result."""

    shares_memory: ClassVar[bool] = True
    """Whether work runs in this process; else it is pickled, and its shards and answers are too."""

    @property
    def device(self) -> str | None:
        """Return the device that its workers compute on; None: that of this process."""
        return None

    def gpu(self) -> str:
        """Name the card that its workers compute on, where this machine has none: it decides last bits."""
        raise NotImplementedError

    def map(self, work: Callable[[Shard], Any], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Any]]:
        """Do the work for every shard.

        Args:
            work: does one shard; may be called for any of them, in any order. Picklable before its first call.
            shards: what to do.

        Yields:
            Each shard with the answer of `work`, as it ends, in any order.

        Raises:
            Exception: what `work` raises; shards that have not begun are then left undone.
        """
        raise NotImplementedError


class InProcess(Executor):
    """One shard after another, in the caller's own thread."""

    def map(self, work: Callable[[Shard], Any], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Any]]:
        """Do the shards in their order; see `Executor.map`."""
        for shard in shards:
            yield shard, work(shard)


class Threads(Executor):
    """Several shards at once, on threads of this process.

    Args:
        workers: shards at once, 1 or more.
    """

    workers: int = Field(ge=1)

    def map(self, work: Callable[[Shard], Any], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Any]]:
        """Do `workers` shards at a time; see `Executor.map`."""
        pool = ThreadPoolExecutor(self.workers)
        try:
            futures = {pool.submit(work, shard): position for position, shard in enumerate(shards)}
            for future in as_completed(futures):
                yield shards[futures[future]], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
