"""Several processes that train or judge together (`torchrun`), or one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """Return this process's place: alone, unless torch's process group was set up."""
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Tell whether this process writes files and messages."""
        return self.rank == 0

    def sum(self, values: "torch.Tensor") -> "torch.Tensor":
        """Add a tensor up over processes."""
        if self.world > 1:
            from torch import distributed

            distributed.all_reduce(values)  # in place
        return values

    def gather(self, values: Sequence[Any]) -> list[Any]:
        """Bring together what each process has for items rank, rank + world, …, in the items' order."""
        if self.world == 1:
            return list(values)
        from torch import distributed

        parts: list[Any] = [None] * self.world
        distributed.all_gather_object(parts, list(values))
        merged = [None] * sum(len(part) for part in parts)
        for rank, part in enumerate(parts):
            merged[rank :: self.world] = part
        return merged

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            from torch import distributed

            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started, if it did: by NCCL on GPUs, by gloo on the CPU.

    Args:
        device: "cuda" or "cpu".

    Yields:
        The device of this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    import torch
    from torch import distributed

    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()
