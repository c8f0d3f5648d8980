"""Clocks, and what a reader must know of the machine behind a figure."""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.study import write_csv
from promptroute.generators.profiling import processor


def now() -> np.ndarray:
    """Seconds, float64 [2]: on the wall; of processor time, by this process and its children that have ended.

    The difference of two is what lay between them. Other work on the machine lengthens the first far more
    than the second.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime])


def here(threads: int) -> dict[str, Any]:
    """Columns that say where a row was measured: `machine`, `cores`, `load` and `nice`.

    Ask before measuring: `load`, the mean number of running threads over the last minute, is then other work's.
    """
    return {
        "machine": processor(threads),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "nice": os.nice(0),
    }


def measured_on(rows: pd.DataFrame) -> str:
    """What `here` says, as a sentence for above a table."""
    parts = []
    for (machine, cores), own in rows.groupby(["machine", "cores"], sort=False):
        load = f"{own['load'].min():.1f}"
        if (most := f"{own['load'].max():.1f}") != load:
            load += f" to {most}"
        nice = f", at nice {own['nice'].max()}" if own["nice"].any() else ""
        parts.append(f"{machine}; load of other work {load} on {cores} cores{nice}.")
    return " ".join(parts)


def parser(module: str, about: str | None, quick: str) -> argparse.ArgumentParser:
    """A command line with what every benchmark of the drawing half takes: --quick and --table.

    Args:
        module: its name.
        about: its docstring.
        quick: what --quick measures, for the help.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help=f"{quick}; writes no results")
    made.add_argument("--table", action="store_true", help="only print the table of the results file")
    return made


def finish(
    rows: list[dict[str, Any]], results: Path, table: Callable[[pd.DataFrame], str], quick: bool
) -> str:
    """Keep what was measured, unless it was a quick try; returns its table."""
    frame = pd.DataFrame(rows)
    if not quick:
        write_csv(results, frame)
    return table(frame)


def command(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[np.ndarray, str]:
    """Run a Python module's command line in a folder: (seconds as of `now` [2], what it printed).

    Raises:
        RuntimeError: it failed; with the end of what it said.
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
    """What DVC needs in the environment to run in a temporary project, and to leave nothing outside of `folder`."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "config"),
        "DVC_NO_ANALYTICS": "1",
    }
