"""Work in batches that survives a full memory and an item that can't be done."""

import gc
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

from promptroute.core.errors import UserError

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """An item that could not be done.

    Attributes:
        reason: why, in one line.
    """

    reason: str


def in_batches(
    items: Sequence[Item],
    process: Callable[[Sequence[Item]], Sequence[Result | Failure]],
    batch_size: int,
    concurrent: int = 1,
    pool: Executor | None = None,
) -> Iterator[tuple[Item, Result | Failure]]:
    """Do the items batch by batch; yield each with its result, in order, as each batch ends.

    Out of memory leaves one batch at a time, then halves the batch, from then on. Any other error makes the batch's
    items go singly, so that only the item at fault fails. A single item that still fails gives a `Failure`.

    Args:
        items: what to do.
        process: one batch → its results, in order; may give a `Failure` for an item itself. Called by
            `concurrent` threads at once; by the caller's own where that is 1.
        batch_size: items per batch at first, 1 or more.
        concurrent: how many batches are done at once, 1 or more.
        pool: the threads that do them, if these shall outlive the call; None: own ones.

    Raises:
        UserError: `batch_size` or `concurrent` is below 1, or `process` says that something a person gave is wrong.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be 1 or more")
    if concurrent < 1:
        raise UserError(f"concurrent is {concurrent}; it must be 1 or more")
    if concurrent == 1:
        yield from _in_turn(items, process, batch_size)
        return
    under_way: deque[tuple[Sequence[Item], Future[Sequence[Result | Failure]]]] = deque()
    start = 0
    with ThreadPoolExecutor(concurrent) if pool is None else nullcontext(pool) as threads:
        while under_way or start < len(items):
            while len(under_way) < concurrent and start < len(items):
                batch = items[start : start + batch_size]
                under_way.append((batch, threads.submit(_batch, process, batch)))
                start += len(batch)
            batch, future = under_way.popleft()
            error = future.exception()
            if error is None:
                yield from _paired(batch, future.result())
                continue
            if isinstance(error, UserError) or not is_out_of_memory(error):
                raise error
            del future, error  # they hold on to what the batch had in memory
            _log.warning("out of memory with %d batches at once: going on with one", concurrent)
            wait([other for _, other in under_way])
            free_memory()
            left = [*batch, *(item for other, _ in under_way for item in other), *items[start:]]
            under_way.clear()
            start = len(items)
            yield from _in_turn(left, process, batch_size)


def _in_turn(
    items: Sequence[Item],
    process: Callable[[Sequence[Item]], Sequence[Result | Failure]],
    batch_size: int,
) -> Iterator[tuple[Item, Result | Failure]]:
    """Do one batch after another; see `in_batches`."""
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        results: Sequence[Result | Failure] | None = None
        reason = ""
        try:
            results = _batch(process, batch)
        except UserError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = _reason(error)
        # Outside the handler, where the error no longer holds on to what the batch had in memory.
        if results is None:
            free_memory()
            if len(batch) > 1:
                batch_size = len(batch) // 2
                _log.warning("out of memory with %d at once: going on with %d", len(batch), batch_size)
                continue
            results = [Failure(reason)]
        yield from _paired(batch, results)
        start += len(batch)


def _batch(
    process: Callable[[Sequence[Item]], Sequence[Result | Failure]], batch: Sequence[Item]
) -> Sequence[Result | Failure]:
    """Return a batch's results, item by item where it fails as a whole; only `UserError` and a full memory pass."""
    try:
        return process(batch)
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if len(batch) == 1:
            return [Failure(_reason(error))]
    return [_alone(process, item) for item in batch]


def _paired(
    batch: Sequence[Item], results: Sequence[Result | Failure]
) -> Iterator[tuple[Item, Result | Failure]]:
    if len(results) != len(batch):
        raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
    return zip(batch, results, strict=True)


def _alone(process: Callable[[Sequence[Item]], Sequence[Result | Failure]], item: Item) -> Result | Failure:
    try:
        (result,) = process([item])
    except UserError:
        raise
    except Exception as error:
        return Failure(_reason(error))
    return result


def _reason(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}".removesuffix(": ")[:300]


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch (on a GPU or the CPU) or Python ran out of memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> None:
    """Give back what torch holds unused, where torch is loaded at all."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
