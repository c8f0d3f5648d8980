"""Shards on Ray: what is lost when something is killed, and how evenly many workers share the work.

    python -m benchmarks.cluster kills           kill an actor, a node and the driver at ten random moments each
    python -m benchmarks.cluster efficiency      images of a small model by one worker and by two, a core each
    python -m benchmarks.cluster simulate        1 to 64 workers, with the shard times and overheads measured here
    python -m benchmarks.cluster simulate --shard-seconds 60 --start-seconds 30 --shards 1000

Nodes are processes of this machine (`ray.cluster_utils.Cluster`). *kills* runs shards that sleep; it counts those whose file
is lost, half-written or wrong afterwards. *efficiency* leaves out the time in which workers start.
"""

import argparse
import heapq
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.machine import here
from benchmarks.reporting import ROOT, markdown
from promptroute.runtime.stage import run_stage

KILLS = 10
NUMBERS = 24
DRIVER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from promptroute.runtime.cluster import RayActors
from promptroute.runtime.shards import run
from tests.runtime.numbers_work import Squares
run(Squares(Path(sys.argv[1]), 0.2), list(range(int(sys.argv[4]))), RayActors(address=sys.argv[3]), "squares")
"""


@contextmanager
def cluster(nodes: int) -> Iterator[Any]:
    """Start a cluster of nodes with one processor each, and end it."""
    import ray
    from ray.cluster_utils import Cluster

    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ["PYTHONPATH"] = paths
    small = {"num_cpus": 1, "object_store_memory": 100_000_000}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    made.small = small
    for _ in range(nodes - 1):
        made.add_node(**small)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def wrong(folder: Path) -> int:
    """Count the numbers whose file is absent or holds anything but their square, and files that shouldn't be there."""
    files = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    bad = sum(files.get(str(number)) != str(number * number) for number in range(NUMBERS))
    return bad + len(set(files) - {str(number) for number in range(NUMBERS)})


def passes(made: Any, folder: Path, at: int, kill: Callable[[], None]) -> int:
    """Run a pass, kill something after `at` shards, and count what is wrong afterwards."""
    from promptroute.runtime.cluster import RayActors
    from promptroute.runtime.shards import run
    from tests.runtime.numbers_work import Squares

    seen: list[int] = []

    def note(done: tuple[int, int]) -> None:
        seen.append(done[0])
        if len(seen) == at:
            kill()

    run(
        Squares(folder, 0.2),
        list(range(NUMBERS)),
        RayActors(address=made.address, max_workers=2),
        "squares",
        note=note,
    )
    return wrong(folder) + abs(len(seen) - NUMBERS)


def kills() -> str:
    """Kill at random moments; return the table."""
    chance = random.Random(0)
    rows = []
    with cluster(2) as made:
        for what in ("actor", "node", "driver"):
            faults = []
            for _ in range(KILLS):
                at = chance.randrange(1, NUMBERS - 4)
                with TemporaryDirectory() as place:
                    folder = Path(place)
                    if what == "driver":
                        faults.append(driver(made, folder, at))
                    else:
                        faults.append(passes(made, folder, at, _killer(what, made)))
                        if what == "node":
                            made.add_node(**made.small)
            rows.append((what, str(len(faults)), str(NUMBERS), str(sum(faults))))
    return markdown("killed | times | shards each | shards lost, doubled or wrong", rows)


def _killer(what: str, made: Any) -> Callable[[], None]:
    if what == "node":
        return lambda: made.remove_node(next(iter(made.worker_nodes)), allow_graceful=False)

    def kill_actor() -> None:
        names = subprocess.run(
            ["pgrep", "-f", "ray::Worker"], capture_output=True, text=True, check=False
        ).stdout.split()
        if names:
            os.kill(int(random.choice(names)), signal.SIGKILL)

    return kill_actor


def driver(made: Any, folder: Path, at: int) -> int:
    """Kill a driver after `at` shards, start it again, and count what is wrong."""
    arguments = [sys.executable, "-c", DRIVER, str(folder), str(ROOT), made.address, str(NUMBERS)]
    with subprocess.Popen(arguments, cwd=folder, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(folder.iterdir())) < at:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    subprocess.run(arguments, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return wrong(folder)


def efficiency(prompts: int) -> str:
    """Generate images by one worker and by two; return the table."""
    from promptroute.generators.diffusers.model import DiffusersModel
    from promptroute.generators.run import GenerateWork, _FailureLimit
    from promptroute.io.images import ImageCache, ImageRequest
    from promptroute.runtime.cluster import RayActors
    from promptroute.runtime.shards import run

    os.chdir(ROOT)
    generator = DiffusersModel(model="mini/weights/diffusion", steps=8, guidance=2.0, batch_size=8)
    shards = [[ImageRequest(f"p{n}", f"{n} red circles", seed) for seed in range(8)] for n in range(prompts)]
    rows, rates = [], []
    with cluster(2) as made, TemporaryDirectory(dir=ROOT / "cache") as place:
        for workers in (1, 2):
            cache = ImageCache(Path(place) / str(workers), "benchmark")
            work = GenerateWork(generator, "mini", cache, _FailureLimit("mini", 10**6, 1.0), 5.0)
            ends: list[float] = []
            executor = RayActors(address=made.address, workers=workers, max_workers=workers)
            run(
                work,
                shards,
                executor,
                f"{workers} workers",
                note=lambda _, ends=ends: ends.append(time.monotonic()),
            )
            settled = ends[2 * workers :]  # without loading
            rates.append((len(settled) - 1) * 8 / (settled[-1] - settled[0]))
            rows.append((str(workers), f"{rates[-1]:.2f}", f"{rates[-1] / (workers * rates[0]):.0%}"))
    return markdown("workers, a core each | images/s | efficiency", rows)


def simulate(shards: int, seconds: float, spread: float, start: float, overhead: float) -> str:
    """Let workers take shards one after another; return the table of how busy they are.

    Args:
        shards: how many there are.
        seconds, spread: mean and standard deviation of a shard's time.
        start: of a worker, before its first shard.
        overhead: between two shards of a worker.
    """
    times = np.random.default_rng(0).normal(seconds, spread, shards).clip(seconds / 2)
    rows = []
    for workers in (1, 2, 4, 8, 16, 32, 64):
        free = [start] * workers
        last = list(free)
        for length in times:
            begun = heapq.heappop(free)
            heapq.heappush(free, begun + overhead + float(length))
        last = sorted(free)
        until = last[0]  # from here on some worker has nothing to do
        total = float(times.sum())
        rows.append(
            (
                str(workers),
                f"{last[-1] / 3600:.2f}",
                f"{total / (workers * last[-1]):.1%}",
                f"{seconds / (seconds + overhead) * (until - start) / until:.1%}",
            )
        )
    return markdown("workers | hours | efficiency of the whole | efficiency until shards run out", rows)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("kills", "efficiency", "simulate"))
    parser.add_argument("--prompts", type=int, default=24, help="shards of 8 images for `efficiency`")
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--shard-seconds", type=float, default=300.0, help="600 images at 2 a second")
    parser.add_argument("--spread", type=float, default=15.0, help="standard deviation of a shard's seconds")
    parser.add_argument(
        "--start-seconds", type=float, default=60.0, help="until a worker has loaded its model"
    )
    parser.add_argument("--overhead", type=float, default=0.5, help="seconds between two shards of a worker")
    given = parser.parse_args(arguments)
    if given.what == "simulate":
        return simulate(given.shards, given.shard_seconds, given.spread, given.start_seconds, given.overhead)
    table = kills() if given.what == "kills" else efficiency(given.prompts)
    facts = here(1)
    return f"{table}\n\n{facts['machine']}, {facts['cores']} cores; load of other work {facts['load']:.1f}."


if __name__ == "__main__":
    run_stage(main)
