"""Time routing: from the start of a process, a prompt at a time, and batched; on one thread.

    python -m benchmarks.latency                                     data/router of this study
    python -m benchmarks.latency --router A --router B --prompts prompts.txt
    python -m benchmarks.latency --router A --before CHECKOUT B      and older code, with a router of its own

Each way has a process of its own, and prompts go to the processes in turn, so that whatever else the machine does meets
all alike. *baseline*: for a router with a sentence encoder, `SentenceTransformer.encode` and the router's own predictor;
for one without encoder, scikit-learn's TfidfVectorizer and Ridge, fitted on these prompts with random qualities; for
static token vectors there is none. *start*: from a process's beginning to its first answer, by `Router.load(A).route`
and by the command `promptroute route`; *memory*: largest resident size of the first. *cpu*: seconds of the processor,
which other work on the machine disturbs less. *ratio*: of p50, to the first row's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.reporting import ROOT, markdown
from promptroute.core.batch import PromptBatch
from promptroute.core.errors import UserError
from promptroute.router.router import Router
from promptroute.runtime.stage import run_stage

Call = Callable[[list[str]], Any]
WARM_UP = 20
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
}
COLUMNS = (
    "way", "router", "p50_ms", "p95_ms", "cpu_p50_ms", "ratio", "prompts_per_s", "prompts_per_cpu_s", "start_s",
    "start_cpu_s", "command_s", "memory_mb",
)  # fmt: skip
WORKER = """
import json, sys, time
from promptroute import Router
if {baseline}:
    sys.path.insert(0, {root!r})
    from benchmarks.latency import baseline_of
router = Router.load({folder!r})
router.warm()
call = router.route
for line in sys.stdin:
    prompts = json.loads(line)
    if {baseline} and call is router.route:
        call = baseline_of(router, prompts)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    call(prompts)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""
COLD = """
import resource, time
from promptroute import Router
Router.load({folder!r}).route([{prompt!r}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time())
"""


def read_prompts(path: Path, n: int) -> list[str]:
    """Read n prompts, evenly from the whole of a parquet file of prompts, or of a text file with a prompt a line.

    Raises:
        UserError: the file is missing, or holds no prompt.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro sample` makes data/prompts.parquet")
    if path.suffix == ".parquet":
        import pandas as pd

        prompts = list(pd.read_parquet(path, columns=["prompt"])["prompt"])
    else:
        prompts = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise UserError(f"{path}: no prompt; give at least one")
    return [prompts[i % len(prompts)] for i in np.linspace(0, len(prompts) - 1, n).astype(int)]


def has_baseline(router: Router) -> bool:
    """Tell whether `baseline_of` knows a plainer form of a router."""
    return all(hasattr(encoder, "place") for encoder in router.loaded.values())


def baseline_of(router: Router, prompts: Sequence[str]) -> Call:
    """Make the baseline of a router; see the module."""
    if not router.encoders:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        random = np.random.default_rng(0).normal(size=(len(prompts), len(router.models)))
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        pipeline = make_pipeline(words, Ridge(solver="lsqr")).fit(prompts, random)
        return lambda batch: (pipeline.predict(batch) - 1000 * router.cost).argmax(1)

    from sentence_transformers import SentenceTransformer

    networks = {
        name: SentenceTransformer(encoder.place(), device="cpu")  # type: ignore[attr-defined]
        for name, encoder in router.loaded.items()
    }
    width = {name: router.loaded[name].description["dim"] for name in networks}

    def call(batch: list[str]) -> Any:
        vectors = {}
        for name, network in networks.items():
            found = network.encode(batch, show_progress_bar=False)
            # An encoder that also gives inner layers is wider: repeating the last stands in for their cost of 0.
            vectors[name] = np.tile(found, (1, -(-width[name] // found.shape[1])))[:, : width[name]]
        return (router.predictor.predict(PromptBatch(batch, vectors)) - 1000 * router.cost).argmax(1)

    return call


@dataclass
class Way:
    """A way to route, in a process of its own.

    Attributes:
        name: "router", "baseline" or "before".
        folder: of the router.
        code: the checkout whose code runs.
    """

    name: str
    folder: Path
    code: Path = ROOT

    def __enter__(self) -> Self:
        code = WORKER.format(
            folder=str(self.folder.resolve()), baseline=self.name == "baseline", root=str(ROOT)
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=self.code, env={**os.environ, **ONE_THREAD},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def seconds(self, prompts: list[str]) -> tuple[float, float]:
        """Route prompts at once; return seconds by the wall and of CPU.

        Raises:
            UserError: the process ended.
        """
        assert self._process.stdin and self._process.stdout
        try:
            print(json.dumps(prompts), file=self._process.stdin, flush=True)
            wall, cpu = map(float, self._process.stdout.readline().split())
        except (ValueError, OSError) as error:
            raise UserError(f"{self.folder}: can't be routed with by the code in {self.code}") from error
        return wall, cpu

    def start(self, prompt: str) -> tuple[float, float, float, float]:
        """Return seconds from a process's beginning to its answer, of CPU, and by the command; and megabytes."""
        folder = str(self.folder.resolve())
        cold = [sys.executable, "-c", COLD.format(folder=folder, prompt=prompt)]
        command = [sys.executable, "-m", "promptroute", "route", "-r", folder, prompt]
        took, said = [], ""
        for line in (command, cold):
            started = time.perf_counter()
            done = subprocess.run(
                line, cwd=self.code, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True
            )
            took.append(time.perf_counter() - started)
            if done.returncode:
                raise UserError(f"{self.folder}: {done.stderr.strip().splitlines()[-1]}")
            said = done.stdout
        memory, cpu = map(float, said.split())
        return took[1], cpu, took[0], memory


def measure(ways: Sequence[Way], prompts: list[str], alone: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each way; they take turns, prompt by prompt, batch by batch, start by start."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for way in ways:
            stack.enter_context(way)
        for way in ways:
            way.seconds(prompts)  # loads, warms up, and fits a baseline
        few = [prompts[i] for i in np.linspace(0, len(prompts) - 1, alone).astype(int)]
        singly = np.array([[way.seconds([prompt]) for way in ways] for prompt in few])  # [prompts, ways, 2]
        together = np.array([[way.seconds(prompts) for way in ways] for _ in range(repeats)])
    starts = np.array(
        [
            [way.start(few[0]) if way.name != "baseline" else (np.nan,) * 4 for way in ways]
            for _ in range(repeats)
        ]
    )
    wall, cpu = (1000 * np.percentile(singly[:, :, k], [50, 95], axis=0) for k in range(2))
    batch = np.median(together, axis=0)  # [ways, 2]
    start, start_cpu, command, memory = np.median(starts, axis=0).T
    return [
        {
            "way": way.name,
            "router": way.folder.name,
            "p50_ms": wall[0, k],
            "p95_ms": wall[1, k],
            "cpu_p50_ms": cpu[0, k],
            "ratio": wall[0, k] / wall[0, 0],
            "prompts_per_s": len(prompts) / batch[k, 0],
            "prompts_per_cpu_s": len(prompts) / batch[k, 1],
            "start_s": start[k],
            "start_cpu_s": start_cpu[k],
            "command_s": command[k],
            "memory_mb": memory[k],
        }
        for k, way in enumerate(ways)
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--router", type=Path, action="append", help="router folder; may be repeated")
    parser.add_argument(
        "--before", type=Path, nargs=2, metavar=("CHECKOUT", "ROUTER"), help="older code, and its router"
    )
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts.parquet"), help="parquet or text")
    parser.add_argument("--n", type=int, default=300, help="prompts timed alone (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="prompts a batch (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed batches and starts (default: %(default)s)"
    )
    parser.add_argument("--no-baseline", action="store_true", help="leave the baselines out")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> str:
    options = parse(arguments)
    prompts = read_prompts(options.prompts, max(options.n, options.batch))
    rows: list[dict[str, Any]] = []
    for folder in options.router or [Path("data/router")]:
        ways = [Way("router", folder)]
        if not options.no_baseline and has_baseline(Router.load(folder)):
            ways.append(Way("baseline", folder))
        if options.before:
            ways.append(Way("before", options.before[1], options.before[0]))
        rows += measure(ways, prompts[: options.batch], options.n, options.repeats)
    words = np.percentile([len(prompt.split()) for prompt in prompts], [50, 95])
    about = (
        f"{options.n} prompts alone, then {options.batch} at once; one thread; {platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; words a prompt: median {words[0]:.0f}, 95 % {words[1]:.0f}"
    )
    lines = [
        [
            row["way"],
            row["router"],
            *("–" if np.isnan(row[key]) else f"{row[key]:,.2f}" for key in COLUMNS[2:]),
        ]
        for row in rows
    ]
    return f"{about}\n\n{markdown(' | '.join(COLUMNS).replace('_', ' '), lines)}\n\n{json.dumps(rows)}"


if __name__ == "__main__":
    run_stage(main)
