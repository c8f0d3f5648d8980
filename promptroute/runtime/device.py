"""Where computing happens: decided once in a stage, then passed on."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import ClassVar

from promptroute.core.component import build
from promptroute.core.errors import UserError
from promptroute.core.plain import Section
from promptroute.runtime.executors import Executor, InProcess


@dataclass(frozen=True)
class Compute:
    """Where and how a stage computes.

    Attributes:
        device: a torch device's name.
        threads: of torch on the CPU, and of BLAS; None: their own choice.
        executor: where shards of work are done.
    """

    device: str
    threads: int | None
    executor: Executor


def read_compute(section: Section, where: str = "compute") -> Compute:
    """Read the section `{device, threads, executor}`, whose executor may be left out; sets torch's threads and BLAS's.

    Args:
        section: the parameters.
        where: its name, for the message.

    Raises:
        UserError: as `pick_device` and `build`, or the section has another key.
    """
    if extra := sorted(set(section) - {"device", "threads", "executor"}):
        raise UserError(f"{where} has {extra[0]}, which is no setting; it takes device, threads and executor")
    threads, named = section.get("threads"), section.get("executor")
    executor = InProcess() if named is None else build(named, f"{where}.executor", Executor)
    device = executor.device or section.get("device", "auto")
    if device == "cuda" and executor.device:  # the workers': this machine may have no GPU
        _Workers.executor = executor
        _set_torch_threads(threads)
        return Compute(device, threads, executor)
    return Compute(pick_device(device, threads), threads, executor)


class _Workers:
    """Who computes on a GPU, where this machine has none."""

    executor: ClassVar[Executor | None] = None

    @classmethod
    def gpu(cls) -> str:
        """Name the workers' card; they are asked once."""
        return "none" if cls.executor is None else _gpu_of(cls.executor)


@cache
def _gpu_of(executor: Executor) -> str:
    return executor.gpu()


def arithmetic(device: str) -> dict[str, str]:
    """Name what decides the last bits of a result: the CPU's vector instructions, or the GPU."""
    import torch

    if device.startswith("cuda"):
        return {"gpu": torch.cuda.get_device_name(device) if torch.cuda.is_available() else _Workers.gpu()}
    return {"cpu": torch.backends.cpu.get_cpu_capability()}


def pick_device(device: object, threads: int | None = None) -> str:
    """Decide the device of a stage, and how many threads torch may use on the CPU.

    Args:
        device: "auto" (a GPU where there is one, else the CPU), or a torch device, as "cpu" or "cuda:1".
        threads: of torch on the CPU, and of BLAS; None leaves them their own choice. The number decides how a sum is
            cut, and so the last bits of a result.

    Returns:
        A torch device's name.

    Raises:
        UserError: the device isn't there, or `threads` is below 1.
    """
    import torch

    if not isinstance(device, str):
        raise UserError(f"compute.device: {device!r}; expected auto or cpu, or another device's name")
    _set_torch_threads(threads)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"compute.device={device}: can't be used ({reason}); give auto or cpu") from error
    return device


def _set_torch_threads(threads: object) -> None:
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise UserError(f"compute.threads: {threads!r}; expected a whole number of 1 or more, or null")
        torch.set_num_threads(threads)
        # Else the machine's cores, or $OMP_NUM_THREADS, decide last bits. SciPy brings a BLAS of its own.
        importlib.import_module("scipy.linalg")
        threadpool_limits(threads, "blas")


def pick_dtype(dtype: str, device: str, what: str) -> str:
    """Decide the precision of a network.

    Args:
        dtype: "auto" (float16 on a GPU, float32 on the CPU), or "float32", "float16", "bfloat16".
        device: the torch device that it is for.
        what: the network's name, for the message.

    Returns:
        A torch dtype's name.

    Raises:
        UserError: no such precision, or not on this device.
    """
    on_cpu = device.startswith("cpu")
    if dtype == "auto":
        return "float32" if on_cpu else "float16"
    if dtype not in ("float32", "float16", "bfloat16"):
        raise UserError(f"{what}: dtype is {dtype!r}; give auto, float32, float16 or bfloat16")
    if on_cpu and dtype != "float32":
        raise UserError(
            f"{what}: dtype is {dtype}, but the device is the CPU, where half precision is slow or lacking; "
            f"set dtype to auto or float32, or compute to a GPU"
        )
    if dtype == "bfloat16":
        import torch

        if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError(f"{what}: dtype is bfloat16, which {device} lacks; set dtype to auto or float16")
    return dtype


class _OneThread:
    """How many want one thread a batch at present, and how many threads torch had before the first of them."""

    lock = Lock()
    users = 0
    before = 1


@contextmanager
def one_thread() -> Iterator[int]:
    """Let torch compute with one thread in each thread that begins meanwhile; yields how many it had.

    To be entered before threads generate and left after: torch's threads may not change while it computes, for
    kernels would then share work out by one number and do it by another. Several may be within it at once.
    """
    import torch

    with _OneThread.lock:
        if _OneThread.users == 0:
            _OneThread.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _OneThread.users += 1
        before = _OneThread.before
    try:
        yield before
    finally:
        with _OneThread.lock:
            _OneThread.users -= 1
            if _OneThread.users == 0:
                torch.set_num_threads(before)


def set_threads(threads: int) -> None:
    """Decide once how many threads one prediction may use, in torch (where it is loaded) and in BLAS.

    Raises:
        UserError: `threads` is below 1.
    """
    from threadpoolctl import threadpool_limits

    if threads < 1:
        raise UserError(f"--threads is {threads}; expected 1 or more")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    threadpool_limits(threads)
