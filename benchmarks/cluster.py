"""Shards on Ray: what is lost when something is killed, and how evenly many workers share the work.

    python -m benchmarks.cluster kills           kill an actor, a node and the driver at ten random moments each
    python -m benchmarks.cluster efficiency      images of a small model by one worker and by two, a core each
    python -m benchmarks.cluster measure         one worker's start, shards and overheads → benchmarks/results/cluster.csv
    python -m benchmarks.cluster simulate        1 to 64 workers by what was measured → docs/scale.svg

Nodes are processes of this machine (`ray.cluster_utils.Cluster`). *kills* runs shards that sleep; it counts those whose file
is lost, half-written or wrong afterwards. *efficiency* leaves out the time in which workers start. *simulate* lets workers
take a study's shards: each start, overhead and second an image is one that was measured, taken by chance.
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
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on
from benchmarks.reporting import RESULTS, ROOT, finish, markdown
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

CSV, FIGURE = RESULTS / "cluster.csv", ROOT / "docs" / "scale.svg"
KILLS, NUMBERS = 10, 24
IMAGES = 8
SHOWN = (1, 2, 4, 8, 16, 32, 64)
DRIVER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from promptroute.runtime.cluster import RayActors
from promptroute.runtime.shards import run
from tests.runtime.numbers_work import Squares
run(Squares(Path(sys.argv[1]), 0.2), list(range(int(sys.argv[4]))), RayActors(address=sys.argv[3], cpus=1.0), "squares")
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
        RayActors(address=made.address, max_workers=2, cpus=1.0),
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


@contextmanager
def small_images(prompts: int) -> Iterator[Callable[[int], tuple[Any, list[Any]]]]:
    """Give what makes a pass over shards of 8 images of the small U-Net, each in a cache of its own."""
    import torch

    from benchmarks.cluster_work import Timed
    from promptroute.generators.diffusers.model import DiffusersModel
    from promptroute.generators.run import _FailureLimit
    from promptroute.io.images import ImageCache, ImageRequest

    os.chdir(ROOT)
    torch.set_num_threads(1)  # workers take as many
    generator = DiffusersModel(model="mini/weights/diffusion", steps=8, guidance=2.0, batch_size=8)
    shards = [
        [ImageRequest(f"p{n}", f"{n} red circles", seed) for seed in range(IMAGES)] for n in range(prompts)
    ]
    with TemporaryDirectory(dir=ROOT / "cache") as place:
        yield lambda turn: (
            Timed(
                generator,
                "mini",
                ImageCache(Path(place) / str(turn), "benchmark"),
                _FailureLimit("mini", 10**6, 1.0),
                5.0,
            ),
            shards,
        )


def efficiency(prompts: int) -> str:
    """Generate images by one worker and by two; return the table."""
    from promptroute.runtime.cluster import RayActors
    from promptroute.runtime.shards import run

    rows, rates = [], []
    with cluster(2) as made, small_images(prompts) as new_pass:
        for workers in (1, 2):
            work, shards = new_pass(workers)
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
            rates.append((len(settled) - 1) * IMAGES / (settled[-1] - settled[0]))
            rows.append((str(workers), f"{rates[-1]:.2f}", f"{rates[-1] / (workers * rates[0]):.0%}"))
    return markdown("workers, a core each | images/s | efficiency", rows)


def measure(prompts: int, passes: int) -> list[dict[str, Any]]:
    """Return what one worker takes, passes over and over: rows of `what`, `images` and `seconds`.

    `start`: until its first image, with loading; `shard`: generating and writing one; `overhead`: from a shard's end to the
    next one's beginning; `driver`: processor time of the driver a shard.
    """
    from promptroute.runtime.cluster import RayActors
    from promptroute.runtime.shards import run

    rows: list[dict[str, Any]] = []

    def row(what: str, seconds: float) -> None:
        rows.append({"what": what, "images": IMAGES, "seconds": seconds})

    with cluster(1) as made, small_images(prompts) as new_pass:
        for turn in range(passes):
            work, shards = new_pass(turn)
            ends: list[tuple[float, float]] = []
            executor = RayActors(address=made.address, max_workers=1)
            begun, used = time.monotonic(), time.process_time()
            run(
                work,
                shards,
                executor,
                "a worker",
                note=lambda seconds, ends=ends: ends.append((time.monotonic(), seconds)),
            )
            row("driver", (time.process_time() - used) / len(ends))
            usual = float(np.median([seconds for _, seconds in ends[1:]]))
            row("start", ends[0][0] - begun - usual)
            for (before, _), (end, seconds) in pairwise(ends):
                row("shard", seconds)
                row("overhead", end - before - seconds)
    return [{**one, **here(1)} for one in rows]


def shared_out(
    workers: int, lengths: np.ndarray, starts: np.ndarray, overheads: np.ndarray, driver: float
) -> tuple[float, float, float]:
    """Let workers take shards one after another from a driver that hands out one at a time.

    Args:
        workers: how many.
        lengths: seconds of each shard [n].
        starts: of each worker, before its first shard.
        overheads: before each shard [n], besides.
        driver: seconds for which the driver is busy with a shard.

    Returns:
        Seconds in all; share of the workers' time in which they generate, in all, and until a worker finds no shard left.
    """
    free = list(starts[:workers])
    heapq.heapify(free)
    begun, handed = np.empty(len(lengths)), 0.0
    for shard, (length, overhead) in enumerate(zip(lengths, overheads, strict=True)):
        handed = max(heapq.heappop(free), handed) + driver
        begun[shard] = handed + overhead
        heapq.heappush(free, begun[shard] + length)
    last, until = max(free), min(free)
    busy = (np.minimum(begun + lengths, until) - begun).clip(0).sum()
    return last, lengths.sum() / (workers * last), busy / (workers * until)


def simulate(
    rows: pd.DataFrame, workers: Sequence[int], shards: int, images: int
) -> list[tuple[int, float, float, float]]:
    """Share out a study's shards by what was measured: workers, and as `shared_out`.

    Args:
        rows: as `measure` gives them.
        workers: numbers of them to try.
        shards, images: of the study, and of each shard. A shard's seconds an image are those of a measured one, by chance.
    """
    rng = np.random.default_rng(0)
    of = {str(what): own for what, own in rows.groupby("what")}
    per_image = (of["shard"]["seconds"] / of["shard"]["images"]).to_numpy()
    lengths = images * rng.choice(per_image, shards)
    overheads = rng.choice(of["overhead"]["seconds"].clip(lower=0).to_numpy(), shards)
    starts = rng.choice(of["start"]["seconds"].to_numpy(), max(workers))
    driver = float(of["driver"]["seconds"].mean())
    return [(many, *shared_out(many, lengths, starts, overheads, driver)) for many in workers]


def table(rows: pd.DataFrame, shards: int = 1000, images: int = 600) -> str:
    """Format what was measured, and what follows from it, in Markdown."""
    told = rows.groupby("what")["seconds"].describe(percentiles=[0.5])
    measured = [
        (name, f"{int(one['count'])}", *(f"{one[key]:.3f}" for key in ("min", "50%", "max")))
        for name, one in told.iterrows()
    ]
    found = [
        (str(many), f"{seconds / 3600:.2f}", f"{whole:.1%}", f"{until:.1%}")
        for many, seconds, whole, until in simulate(rows, SHOWN, shards, images)
    ]
    return "\n\n".join(
        [
            measured_on(rows),
            markdown("one worker, s | times | least | median | most", measured),
            f"{shards:,} shards of {images} images:",
            markdown("workers | hours | efficiency of the whole | until shards run out", found),
        ]
    )


def plot(rows: pd.DataFrame, path: Path, shards: int = 1000, images: int = 600) -> None:
    """Plot the efficiency of 1 to 64 workers as an SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "promptroute"})
    from matplotlib import pyplot

    found = np.array(simulate(rows, range(1, SHOWN[-1] + 1), shards, images))
    figure, axes = pyplot.subplots(figsize=(6, 3))
    for column, label in ((3, "until shards run out"), (2, "of the whole")):
        axes.plot(found[:, 0], 100 * found[:, column], label=label)
    axes.axhline(90, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="workers", ylabel="efficiency, %", ylim=(80, 101), xlim=(0, SHOWN[-1] + 1))
    axes.legend(frameon=False)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("kills", "efficiency", "measure", "simulate"))
    parser.add_argument("--prompts", type=int, default=24, help="shards of 8 images of a pass")
    parser.add_argument("--passes", type=int, default=3, help="that are measured, each with a new worker")
    parser.add_argument("--shards", type=int, default=1000, help="of the simulated study")
    parser.add_argument("--images", type=int, default=600, help="of each of its shards")
    given = parser.parse_args(arguments)
    if given.what == "measure":
        return finish(measure(given.prompts, given.passes), CSV, table)
    if given.what == "simulate":
        rows = pd.read_csv(CSV)
        plot(rows, FIGURE, given.shards, given.images)
        return table(rows, given.shards, given.images)
    facts = here(1)
    shown = kills() if given.what == "kills" else efficiency(given.prompts)
    return f"{shown}\n\n{facts['machine']}, {facts['cores']} cores; load of other work {facts['load']:.1f}."


if __name__ == "__main__":
    run_stage(main)
