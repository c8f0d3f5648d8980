"""Many small things made in order, by as many processes or machines as there are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Generic, TypeVar

from mini.settings import FILE, load_settings
from promptroute.core.component import build
from promptroute.runtime.executors import Executor

Key = TypeVar("Key")
Made = TypeVar("Made")


@dataclass
class _Each(Generic[Key, Made]):
    """Makes the things of a run of keys; sent to where an executor works."""

    make: Callable[[Key], Made]

    def __call__(self, shard: tuple[int, Sequence[Key]]) -> list[Made]:
        return [self.make(key) for key in shard[1]]


def chosen_executor() -> Executor | None:
    """Return the executor of mini/pipeline/params.yaml (compute.executor), where it names one."""
    section = load_settings("compute").get("executor") if FILE.is_file() else None
    return (
        None if section is None else build(section, "mini/pipeline/params.yaml: compute.executor", Executor)
    )


def in_order(
    make: Callable[[Key], Made],
    keys: Sequence[Key],
    workers: int | None = 1,
    executor: Executor | None = None,
    chunk: int = 50,
    start: str = "fork",
) -> Iterator[Made]:
    """Yield what `make` makes of each key, in their order; where it is made decides nothing.

    Args:
        make: a function of a module.
        keys: what to make.
        workers: processes of this machine; None: one for each core.
        executor: where to make it instead, as on Ray.
        chunk: keys that are handed out at a time.
        start: how processes of this machine start: "spawn" where torch has computed before.
    """
    if executor is not None:
        shards = [(at, keys[at : at + chunk]) for at in range(0, len(keys), chunk)]
        waiting: dict[int, list[Made]] = {}
        following = 0
        for (at, _), made in executor.map(_Each(make), shards):
            waiting[at] = made
            while following in waiting:
                yield from waiting.pop(following)
                following += chunk
    elif workers == 1:
        yield from map(make, keys)
    else:
        with get_context(start).Pool(workers) as pool:
            yield from pool.imap(make, keys, chunksize=chunk)
