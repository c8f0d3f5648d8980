"""Shards of work: each independent, idempotent, and whole or absent, so that what is finished is never done again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from promptroute.io.cache import CacheFile
from promptroute.runtime.executors import Executor

if TYPE_CHECKING:
    import pyarrow as pa

Shard = TypeVar("Shard")


class Work(ABC, Generic[Shard]):
    """A pass over shards. Picklable until its first call, so models are loaded there.

    Attributes:
        ticks: whether it calls `tick` itself as parts of a shard are done; else the runner does, once a shard.
        tick: moves the progress bar by so many units; does nothing in a process of its own.
    """

    ticks: ClassVar[bool] = False
    tick: Callable[[int], Any] = staticmethod(lambda count: None)

    @abstractmethod
    def path(self, shard: Shard) -> Path:
        """Return where the finished result of a shard is kept, whether it exists yet or not."""

    @abstractmethod
    def __call__(self, shard: Shard) -> Any:
        """Make the result at `path(shard)`: whole or not at all, equal whenever, wherever and however often.

        Returns:
            A picklable note for `run`'s caller; most work has none.
        """

    @abstractmethod
    def is_done(self, shard: Shard) -> bool:
        """Tell whether the result is there and whole and this work's own; reads it, to verify its checksums."""

    def size(self, shard: Shard) -> int:
        """Return how many units of the progress bar a shard is."""
        return 1


class TableWork(Work[Shard]):
    """Work whose result is one table a shard, kept in the cache: subclasses say where, and make it."""

    @abstractmethod
    def file(self, shard: Shard) -> CacheFile:
        """Name the cache's file of a shard."""

    @abstractmethod
    def make(self, shard: Shard) -> "pa.Table":
        """Do a shard; returns its rows."""

    def path(self, shard: Shard) -> Path:
        """Return where a shard's table is kept."""
        return self.file(shard).path

    def is_done(self, shard: Shard) -> bool:
        """Tell whether the table is there, whole, and of this component and these inputs."""
        return self.file(shard).read() is not None

    def __call__(self, shard: Shard) -> None:
        """Make a shard's table and keep it."""
        self.file(shard).write(self.make(shard))


def run(
    work: Work[Shard],
    shards: Sequence[Shard],
    executor: Executor,
    label: str,
    unit: str = "shard",
    note: Callable[[Any], None] | None = None,
) -> list[Path]:
    """Do the shards that are not done yet.

    Args:
        work: what to do.
        shards: to what; two equal shards have one path.
        executor: where.
        label, unit: of the progress bar.
        note: called with what `work` returned of each shard that was done now; may raise, to stop the pass.

    Returns:
        The result's path of each shard, in their order.

    Raises:
        Exception: what `work` or `note` raises; what is finished stays.
    """
    from tqdm import tqdm

    paths = {work.path(shard): shard for shard in shards}
    missing = [shard for shard in paths.values() if not work.is_done(shard)]
    total, left = sum(map(work.size, paths.values())), sum(map(work.size, missing))
    with tqdm(total=total, initial=total - left, desc=label, unit=unit, disable=None) as bar:
        if executor.shares_memory:
            work.tick = bar.update
        try:
            for shard, answer in executor.map(work, missing):
                if not (work.ticks and executor.shares_memory):
                    bar.update(work.size(shard))
                if note is not None:
                    note(answer)
        finally:
            work.__dict__.pop("tick", None)
    return [work.path(shard) for shard in shards]
