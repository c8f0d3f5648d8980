"""Shards on Ray: what is lost when something is killed, and how evenly many workers share the work.

    python -m benchmarks.cluster kills           kill an actor, a node and the driver at ten random moments each
    python -m benchmarks.cluster efficiency      images of a small model by one worker and by two, a core each; 4 to 5 minutes
    python -m benchmarks.cluster measure         one worker's start, shards and overheads → benchmarks/results/cluster.csv
    python -m benchmarks.cluster simulate        1 to 64 workers by what was measured → docs/scale.svg

Nodes are processes of this machine (`ray.cluster_utils.Cluster`). *kills* runs shards that sleep; it counts those whose file
is lost, half-written or wrong afterwards, and what is left behind. *efficiency* leaves out the time in which workers start. *simulate* lets workers
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.cluster_work import SLOW, Done, InTurn, SlowSquares, Timed, without_ray
from benchmarks.machine import here, measured_on
from benchmarks.reporting import RESULTS, ROOT, finish, markdown
from promptroute.io.files import _is_alive, atomic_path, write_text
from promptroute.runtime.shards import Work
from promptroute.runtime.stage import run_stage

CSV, FIGURE = RESULTS / "cluster.csv", ROOT / "docs" / "scale.svg"
NUMBERS = 24
EFFICIENCY = RESULTS / "cluster_efficiency.csv"
HOW = RAY, PLAIN = "Ray", "plain processes"
IMAGES = 8
SHOWN = (1, 2, 4, 8, 16, 32, 64)
DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from benchmarks.cluster_work import SlowSquares
from promptroute.runtime.cluster import RayActors
from promptroute.runtime.shards import run
run(SlowSquares(Path("data")), list(range(int(sys.argv[3]))), RayActors(address=sys.argv[2], cpus=1.0), "squares")
"""
NEXT = """
import sys
sys.path.insert(0, sys.argv[1])
from promptroute.io.files import write_text
write_text("data/next", "")
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


@dataclass(frozen=True)
class Faults:
    """What is wrong after a kill; no attribute should be above 0 but the first.

    Attributes:
        struck: whether the kill met a file that was being written: half of it lay in cache/tmp.
        lost: shards without a file.
        wrong: files with anything but the shard's result, as half of it.
        repeated: shards whose finished file was made again.
        data, tmp: files too many in data/, and in cache/tmp after the next run.
    """

    struck: int = 0
    lost: int = 0
    wrong: int = 0
    repeated: int = 0
    data: int = 0
    tmp: int = 0


def faults(project: Path, hit: int, repeated: int) -> Faults:
    """Look at what a pass over numbers left in a project's data/ and, once the next run has begun, in its cache/tmp."""
    found = {path.name: path.read_text() for path in (project / "data").iterdir()}
    right = {str(number): str(number * number) for number in range(NUMBERS)}
    subprocess.run([sys.executable, "-c", NEXT, str(ROOT)], cwd=project, check=True)
    return Faults(
        hit,
        len(set(right) - set(found)),
        sum(name in found and found[name] != text for name, text in right.items()),
        repeated,
        len(set(found) - set(right)),
        len(list((project / "cache" / "tmp").iterdir())),
    )


def struck(project: Path, what: str) -> int:
    """Wait until whoever was killed is gone; tell (1 or 0) whether a file was left that one of them was writing."""
    time.sleep({"actor": 0.2, "node": 2.0, "driver": 1.0}[what])  # a node's actors notice later
    left = [*(project / "cache" / "tmp").glob(".[0-9]*"), *(project / "data").glob(".[0-9]*")]
    return int(not all(_is_alive(int(path.name.split(".")[-2])) for path in left))


@contextmanager
def new_project(bare: bool) -> Iterator[Path]:
    """Make an empty DVC project (or, `bare`, a folder that is none), and work there as a stage does."""
    before = Path.cwd()
    with TemporaryDirectory() as place:
        project = Path(place)
        (project / "data").mkdir()
        if not bare:
            (project / "dvc.yaml").write_text("stages: {}\n")
        os.chdir(project)
        try:
            yield project
        finally:
            os.chdir(before)


def passes(made: Any, project: Path, at: int, later: float, what: str) -> Faults:
    """Run a pass, kill an actor or a node some seconds after `at` shards, and look at what is left."""
    from promptroute.runtime.cluster import RayActors
    from promptroute.runtime.shards import run

    seen, hit, timers = list[int](), list[int](), list[Timer]()

    def strike(process: int) -> None:
        if what == "node":
            made.remove_node(next(iter(made.worker_nodes)), allow_graceful=False)
        else:
            os.kill(process, signal.SIGKILL)
        hit.append(struck(project, what))

    def note(done: tuple[int, int]) -> None:
        seen.append(done[0])
        if len(seen) == at:  # while whoever it is does the next one
            timers.append(Timer(later, strike, [done[1]]))
            timers[0].start()

    executor = RayActors(address=made.address, max_workers=2, cpus=1.0)
    run(SlowSquares(Path("data")), list(range(NUMBERS)), executor, "squares", note=note)
    timers[0].join()
    return faults(project, sum(hit), len(seen) - len(set(seen)))


def kills(times: int, bare: bool) -> str:
    """Kill at random moments; return the table."""
    chance = random.Random(0)
    rows = []
    with cluster(2) as made:
        for what in ("actor", "node", "driver"):
            found = []
            for _ in range(times):
                at, later = chance.randrange(1, NUMBERS - 4), chance.uniform(0, 2 * SLOW)
                with new_project(bare) as project:
                    if what == "driver":
                        found.append(driver(made, project, at, later))
                    else:
                        found.append(passes(made, project, at, later, what))
                        if what == "node":
                            made.add_node(**made.small)
                print(what, at, found[-1], flush=True)
            sums = [str(sum(getattr(one, column.name) for one in found)) for column in fields(Faults)]
            rows.append((what, str(times), str(NUMBERS), *sums))
    return markdown(
        "killed | times | shards each | of the kills, amid a write | shards lost | wrong or half-written | done twice "
        "| left in data/ | left in cache/tmp after the next run",
        rows,
    )


def driver(made: Any, project: Path, at: int, later: float) -> Faults:
    """Kill a driver after `at` shards, start it again, and look at what is left."""
    arguments = [sys.executable, "-c", DRIVER, str(ROOT), made.address, str(NUMBERS)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list((project / "data").iterdir())) < at:
            time.sleep(0.02)
        time.sleep(later)
        process.send_signal(signal.SIGKILL)
    hit = struck(project, "driver")
    before = {path: path.stat().st_mtime_ns for path in (project / "data").iterdir()}
    subprocess.run(arguments, check=True, stderr=subprocess.DEVNULL)
    return faults(project, hit, sum(path.stat().st_mtime_ns != time for path, time in before.items()))


@contextmanager
def small_images(prompts: int) -> Iterator[Callable[[type[Work], str], tuple[Any, list[Any]]]]:
    """Give what makes work of a kind on shards of 8 images of the small U-Net, by name in a cache of its own."""
    import torch

    from promptroute.generators.diffusers.model import DiffusersModel
    from promptroute.generators.run import _FailureLimit
    from promptroute.io.images import ImageCache, ImageRequest

    os.chdir(ROOT)
    torch.set_num_threads(1)  # workers take as many
    generator = DiffusersModel(model="mini/weights/diffusion", steps=8, guidance=2.0, batch_size=8)
    shards = [
        [ImageRequest(f"p{n}", f"{n} red circles", seed) for seed in range(IMAGES)] for n in range(prompts)
    ]
    limit = _FailureLimit("mini", 10**6, 1.0)
    with TemporaryDirectory(dir=ROOT / "cache") as place:
        yield lambda kind, name: (
            kind(generator, "mini", ImageCache(Path(place) / name, "benchmark"), limit, 5.0),
            shards,
        )


class _Over(Exception):
    """Spans of time are over."""


def efficiency(cycles: int, seconds: float) -> list[dict[str, Any]]:
    """Generate images by one worker and by two, through Ray and without it, in turns.

    All four workers live all the time, pinned to two cores, and take turns of some seconds: in each cycle, by chance in
    another order, each of Ray's two alone and both at once, and the same without Ray.

    Returns:
        Rows of `cycle`, `how`, `workers` ("0", "1" or "both") and `images_per_second`; and of `how` ("driver", "Ray's own
        processes") and `taken`, the share of a processor that these took.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from promptroute.runtime.cluster import RayActors
    from promptroute.runtime.shards import run

    turns = [(how, cores) for how in HOW for cores in ((0,), (1,), (0, 1))]
    order = [turn for _ in range(cycles) for turn in random.Random(0).sample(turns, len(turns))]
    facts, found = here(1), list[Done]()
    with (
        TemporaryDirectory() as folder,
        cluster(2) as made,
        small_images(int(30 * cycles * seconds)) as new_work,
    ):
        place = Path(folder)
        works = {how: new_work(InTurn, f"{number}") for number, how in enumerate(HOW)}
        for how, (work, _) in works.items():
            work.how, work.place, work.seconds = how, place, seconds
            work.spans = [[(kind, core) for core in cores] for kind, cores in order]
        used: list[tuple[float, float, float]] = []

        def clocks() -> tuple[float, float, float]:
            return time.monotonic(), time.process_time(), _own_seconds(made)

        def note(done: Done | None) -> None:
            warm = len(list(place.glob("*-is-warm"))) == 4
            if warm and not used:
                used.append(clocks())
                write_text(place / "begin", f"{time.monotonic() + 1.0}")
            if done is None:
                used.append(clocks())
                raise _Over
            found.append(done)

        executor = RayActors(address=made.address, workers=2, max_workers=2, start_seconds=900.0)
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            alone = [pool.submit(without_ray, *works[PLAIN]) for _ in range(2)]
            try:
                with suppress(_Over):
                    run(*works[RAY], executor, "spans", note=note)
            finally:
                if not (place / "begin").exists():
                    write_text(place / "begin", "0")  # long ago: the others end
            found += [done for future in alone for done in future.result()]
        begin = float((place / "begin").read_text())
    (at, own, rays), (end, own_end, rays_end) = used
    rows: list[dict[str, Any]] = [
        {"how": "driver", "taken": (own_end - own) / (end - at)},
        {"how": "Ray's own processes", "taken": (rays_end - rays) / (end - at)},
    ]
    for span, (how, cores) in enumerate(order):
        rate = sum(_rate(found, how, core, begin + span * seconds, seconds) for core in cores)
        name = "both" if len(cores) == 2 else str(cores[0])
        rows.append({"cycle": span // len(turns), "how": how, "workers": name, "images_per_second": rate})
    return [{**row, **facts} for row in rows]


def _rate(found: Sequence[Done], how: str, core: int, begin: float, seconds: float) -> float:
    """Return a worker's images a second in a span, without its first second, in which others finish their shards."""
    begins = sorted(
        done.begin
        for done in found
        if (done.how, done.core) == (how, core) and begin + 1.0 <= done.begin < begin + seconds
    )
    return IMAGES * (len(begins) - 1) / (begins[-1] - begins[0]) if len(begins) > 2 else np.nan


def _own_seconds(made: Any) -> float:
    """Return the processor time of Ray's own processes, those without workers, so far."""
    total = 0
    for node in made.list_all_nodes():
        for processes in node.all_processes.values():
            for one in processes:
                with suppress(OSError):
                    fields_ = Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()
                    total += int(fields_[11]) + int(fields_[12])
    return total / os.sysconf("SC_CLK_TCK")


def efficiency_table(rows: pd.DataFrame) -> str:
    """Format what `efficiency` found in Markdown: medians over the cycles, with their 95 % bootstrap intervals."""
    rates = rows[rows["cycle"].notna()].pivot(
        index="cycle", columns=["how", "workers"], values="images_per_second"
    )
    rates = rates.dropna()
    lines, both = [], {}
    for how in HOW:
        alone, both[how] = rates[how]["0"] + rates[how]["1"], rates[how]["both"]
        lines.append(
            (how, f"{alone.median() / 2:.2f}", f"{both[how].median():.2f}", *_median(both[how] / alone))
        )
    lines.append(("Ray against plain", "", "", *_median(both[RAY] / both[PLAIN])))
    taken = rows.set_index("how")["taken"].dropna()
    took = ", ".join(f"{how} {share:.1%}" for how, share in taken.items())
    return "\n\n".join(
        [
            measured_on(rows),
            markdown(
                "workers | one, images/s | two, images/s | two against twice one | 95 % interval", lines
            ),
            f"{len(rates)} cycles. Of one core, beside the workers: {took}.",
        ]
    )


def _median(ratios: pd.Series) -> tuple[str, str]:
    values = ratios.to_numpy()
    medians = np.median(np.random.default_rng(0).choice(values, (10_000, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return f"{np.median(values):.1%}", f"{low:.1%} to {high:.1%}"


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

    with cluster(1) as made, small_images(prompts) as new_work:
        for turn in range(passes):
            work, shards = new_work(Timed, str(turn))
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
    parser.add_argument("--cycles", type=int, default=8, help="of efficiency, six turns each")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--out", type=Path, help="of efficiency, a file in place of its results'")
    parser.add_argument("--times", type=int, default=10, help="that each is killed")
    parser.add_argument("--bare", action="store_true", help="kill in a folder that is no DVC project")
    parser.add_argument("--shards", type=int, default=1000, help="of the simulated study")
    parser.add_argument("--images", type=int, default=600, help="of each of its shards")
    given = parser.parse_args(arguments)
    if given.what == "measure":
        return finish(measure(given.prompts, given.passes), CSV, table)
    if given.what == "simulate":
        rows = pd.read_csv(CSV)
        plot(rows, FIGURE, given.shards, given.images)
        return table(rows, given.shards, given.images)
    if given.what == "efficiency":
        return finish(efficiency(given.cycles, given.seconds), given.out or EFFICIENCY, efficiency_table)
    facts = here(1)
    return f"{kills(given.times, given.bare)}\n\n{facts['machine']}, {facts['cores']} cores; load of other work {facts['load']:.1f}."


if __name__ == "__main__":
    run_stage(main)
