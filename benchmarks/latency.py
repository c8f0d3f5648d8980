"""Time routing: a prompt at a time and batched, on one thread, against the straightforward way.

    python -m benchmarks.latency                                   data/router of this study
    python -m benchmarks.latency --router A --router B --prompts prompts.txt

The baselines, on the same prompts in turn with the router: for a router with a sentence encoder,
`SentenceTransformer.encode` and the router's own predictor on its embeddings; for a router without encoder,
scikit-learn's TfidfVectorizer and Ridge, fitted on these prompts with random qualities. A router with static token
vectors is timed alone.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ[_name] = "false" if _name.startswith("TOKEN") else "1"  # before numpy and torch are imported

import argparse  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks.reporting import markdown  # noqa: E402
from promptroute.core.batch import PromptBatch  # noqa: E402
from promptroute.core.errors import UserError  # noqa: E402
from promptroute.router.router import Router  # noqa: E402
from promptroute.runtime.stage import run_stage  # noqa: E402

Call = Callable[[list[str]], Any]
WARM_UP = 20
COLUMNS = ("encoder", "predictor", "way", "p50_ms", "p95_ms", "p99_ms", "cpu_p50_ms", "prompts_per_s")


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


def baseline_of(router: Router, prompts: Sequence[str]) -> Call | None:
    """Make the baseline of a router; None where an encoder has no plainer form."""
    if not router.encoders:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        random = np.random.default_rng(0).normal(size=(len(prompts), len(router.models)))
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        pipeline = make_pipeline(words, Ridge(solver="lsqr")).fit(prompts, random)
        return lambda batch: (pipeline.predict(batch) - 1000 * router.cost).argmax(1)

    from sentence_transformers import SentenceTransformer

    networks = {}
    for name, encoder in router.loaded.items():
        place = getattr(encoder, "place", None)
        if place is None:
            return None
        networks[name] = SentenceTransformer(place(), device="cpu")
    width = {name: router.loaded[name].description["dim"] for name in networks}

    def call(batch: list[str]) -> Any:
        vectors = {}
        for name, network in networks.items():
            found = network.encode(batch, show_progress_bar=False)
            # An encoder that also gives inner layers is wider: repeating the last stands in for their cost of 0.
            vectors[name] = np.tile(found, (1, -(-width[name] // found.shape[1])))[:, : width[name]]
        return (router.predictor.predict(PromptBatch(batch, vectors)) - 1000 * router.cost).argmax(1)

    return call


def one_by_one(calls: dict[str, Call], prompts: Sequence[str]) -> dict[str, np.ndarray]:
    """Time each call on each prompt alone: seconds, wall and CPU, float64 [n, 2]; the calls alternate."""
    for call in calls.values():
        for prompt in prompts[:WARM_UP]:
            call([prompt])
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for prompt in prompts:
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call([prompt])
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: np.array(rows) for name, rows in seconds.items()}


def batched(call: Call, prompts: list[str], repeats: int) -> float:
    """Return prompts a second: the median of `repeats` calls with all prompts, after a warm-up."""
    took = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call(prompts)
        took.append(time.perf_counter() - started)
    return len(prompts) / float(np.median(took[1:]))


def measure(folder: Path, prompts: list[str], batch: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row for the router, and a row for its baseline."""
    router = Router.load(folder)
    router.warm()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    calls: dict[str, Call] = {"router": router.route}
    if (baseline := baseline_of(router, prompts)) is not None:
        calls["baseline"] = baseline
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # loading may have changed it
    seconds = one_by_one(calls, prompts)
    encoders = " + ".join(
        str(encoder.description.get("model", name)) for name, encoder in router.loaded.items()
    )
    rows = []
    for name, call in calls.items():
        wall, cpu = (1000 * np.percentile(column, [50, 95, 99]) for column in seconds[name].T)
        rows.append(
            {
                "router": str(folder),
                "encoder": encoders or "none (tf-idf)",
                "predictor": type(router.predictor).__name__,
                "way": name,
                "p50_ms": wall[0],
                "p95_ms": wall[1],
                "p99_ms": wall[2],
                "cpu_p50_ms": cpu[0],
                "prompts_per_s": batched(call, prompts[:batch], repeats),
            }
        )
    return rows


def main() -> str:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--router", type=Path, action="append", help="router folder; may be repeated")
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts.parquet"), help="parquet or text")
    parser.add_argument("--n", type=int, default=300, help="prompts timed alone (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="prompts a batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed batches (default: %(default)s)")
    options = parser.parse_args()
    prompts = read_prompts(options.prompts, max(options.n, options.batch))
    rows: list[dict[str, Any]] = []
    for folder in options.router or [Path("data/router")]:
        rows += measure(folder, prompts, options.batch, options.repeats)
    words = np.percentile([len(prompt.split()) for prompt in prompts], [50, 95])
    about = (
        f"{len(prompts)} prompts alone, then {options.batch} at once; one thread; {platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; words a prompt: median {words[0]:.0f}, 95 % {words[1]:.0f}"
    )
    texts, figures = COLUMNS[:3], COLUMNS[3:]
    lines = [[*(row[key] for key in texts), *(f"{row[key]:,.2f}" for key in figures)] for row in rows]
    shown = markdown(" | ".join(COLUMNS).replace("_", " "), lines)
    return f"{about}\n\n{shown}\n\n{json.dumps(rows)}"


if __name__ == "__main__":
    run_stage(main)
