"""Work in batches that survives a full memory and an item that can't be done."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stages.records import BadInput

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """An item that could not be done, and why."""

    reason: str


def in_batches(
    items: Sequence[Item],
    process: Callable[[Sequence[Item]], Sequence[Result | Failure]],
    batch_size: int,
) -> Iterator[tuple[Item, Result | Failure]]:
    """Do the items batch by batch; give each with its result, in order, as each batch ends.

    Out of memory halves the batch, from then on. Any other error makes the batch's items go one by one, so
    that the one at fault fails alone. A single item that still fails gives a `Failure`.

    Args:
        items: what to do.
        process: one batch → its results, in order; may give a `Failure` for an item itself.
        batch_size: items per batch at first, 1 or more.

    Raises:
        BadInput: `batch_size` is below 1, or `process` says that something a person gave is wrong.
    """
    if batch_size < 1:
        raise BadInput(f"batch_size is {batch_size}; it must be 1 or more")
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        results: Sequence[Result | Failure]
        memory = False
        try:
            results = process(batch)
        except BadInput:
            raise
        except Exception as error:
            memory = is_out_of_memory(error)
            results = [Failure(_reason(error))] if len(batch) == 1 else []
        # Outside the handler, where the error no longer holds on to what the batch had in memory.
        if memory:
            free_memory()
            if len(batch) > 1:
                batch_size = len(batch) // 2
                print(f"out of memory with {len(batch)} at once: going on with {batch_size}", file=sys.stderr)
                continue
        if not results:
            results = [_alone(process, item) for item in batch]
        if len(results) != len(batch):
            raise RuntimeError(f"{len(results)} results for a batch of {len(batch)}")
        yield from zip(batch, results, strict=True)
        start += len(batch)


def _alone(process: Callable[[Sequence[Item]], Sequence[Result | Failure]], item: Item) -> Result | Failure:
    try:
        (result,) = process([item])
    except BadInput:
        raise
    except Exception as error:
        return Failure(_reason(error))
    return result


def _reason(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}".removesuffix(": ")[:300]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch (on a GPU or the CPU) or Python ran out of memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> None:
    """Give back what torch holds unused, where torch is loaded at all."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
