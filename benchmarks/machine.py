"""Clocks, commands, and the machine behind a figure."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from promptroute.generators.profiling import processor


def now() -> np.ndarray:
    """Return seconds, float64 [2]: wall clock; processor time of this process and its children that have ended.

    The difference of two is the time between them. Other work on the machine lengthens the first far more than the
    second.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime])


def here(threads: int) -> dict[str, Any]:
    """Return columns that say where a row was measured: `machine`, `cores`, `load` and `nice`.

    Call it before measuring: `load`, the mean number of running threads over the last minute, is then other work's.
    """
    return {
        "machine": processor(threads),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "nice": os.nice(0),
    }


def measured_on(rows: pd.DataFrame) -> str:
    """Word what `here` says, as a sentence above a table."""
    parts = []
    for (machine, cores), own in rows.groupby(["machine", "cores"], sort=False):
        load = f"{own['load'].min():.1f}"
        if (most := f"{own['load'].max():.1f}") != load:
            load += f" to {most}"
        nice = f", at nice {own['nice'].max()}" if own["nice"].any() else ""
        parts.append(f"{machine}; load of other work {load} on {cores} cores{nice}.")
    return " ".join(parts)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep torch and the linear algebra to one thread."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def command(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[np.ndarray, str]:
    """Run a Python module's command line in a folder; return seconds as of `now` [2], and its output.

    Raises:
        RuntimeError: the command failed; with the end of its output.
    """
    before = now()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    seconds = now() - before
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return seconds, done.stdout


def dvc_environment(folder: Path) -> dict[str, str]:
    """Return the environment in which DVC runs in a temporary project and writes nothing outside of `folder`."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "config"),
        "DVC_NO_ANALYTICS": "1",
    }
