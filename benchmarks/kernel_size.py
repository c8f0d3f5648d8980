"""The kernel predictor at size: seconds and memory to learn from tens of thousands of prompts, out-of-fold predictions too.

    python -m benchmarks.kernel_size                      20,000 prompts, all compared; 45,000 (50,000 split 8 : 1 : 1)
    python -m benchmarks.kernel_size --sizes 20000        other sizes; ascending, since a process's peak only rises
    python -m benchmarks.kernel_size --threads 1
    python -m benchmarks.kernel_size --quick              500 prompts; writes no results
    python -m benchmarks.kernel_size --table              only print the table of benchmarks/results/kernel_size.csv

Prompts are made up: words by Zipf's law, as long as the published table's, vectors as wide as those of every layer of MiniLM,
quality of four models from the vectors, with noise. *Peak memory* is the process's, the prompts' own vectors and all.
*explained* is the share of the variance between models that out-of-fold predictions explain: above 0, so that a fit that
went wrong would show.
"""

import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.machine import here, measured_on, now
from benchmarks.reporting import RESULTS, cells, markdown, numbers, options, run
from promptroute.core.batch import PromptBatch
from promptroute.predictors.kernel import Kernel
from promptroute.predictors.targets import split_level
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "kernel_size.csv"
SIZES, MODELS, WIDTH, LAYERS, LATENT = (20_000, 45_000), 4, 384, 7, 48
VOCABULARY, SYLLABLES = (
    20_000,
    ("ba", "cor", "del", "in", "fo", "gre", "li", "ma", "ner", "o", "pan", "ste", "ti", "us", "ver"),
)
PREDICTED = 1_000
HEAD = "prompts learnt from | compared with | seconds | CPU seconds | peak memory, GiB | explained, % | predicts, prompts/s"


def simulate(n: int, seed: int = 0) -> tuple[PromptBatch, np.ndarray]:
    """Make up n prompts with the vectors of an encoder's layers, and their quality, float64 [n, MODELS]."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(VOCABULARY)]
    chances = 1 / np.arange(2, VOCABULARY + 2)
    lengths = np.maximum(1, np.exp(rng.normal(np.log(18), 0.6, n)).astype(int))
    chosen = rng.choice(VOCABULARY, lengths.sum(), p=chances / chances.sum())
    ends = np.cumsum(lengths)
    texts = [
        " ".join(words[at] for at in chosen[end - long : end])
        for end, long in zip(ends, lengths, strict=True)
    ]
    latent = rng.normal(size=(n, LATENT)).astype(np.float32)
    vectors = latent @ rng.normal(size=(LATENT, WIDTH * LAYERS)).astype(np.float32)
    vectors += rng.standard_normal(vectors.shape, np.float32)
    quality = np.tanh(latent @ rng.normal(size=(LATENT, MODELS)) / 4) + rng.normal(size=(n, MODELS))
    return PromptBatch(texts, {"layers": vectors}), quality


def measure(sizes: Sequence[int], threads: int, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each size: nine tenths to train on, a tenth for validation, all learned from."""
    place, rows = here(threads), []
    for size in sorted(sizes):
        prompts, quality = simulate(size + PREDICTED)
        cut = round(size * 8 / 9)
        part = [prompts.take(np.arange(*ends)) for ends in ((0, cut), (cut, size), (size, size + PREDICTED))]
        del prompts
        model = Kernel(encoder="layers", width=WIDTH, **settings)
        with threadpool_limits(threads):
            before = now()
            model.fit(part[0], quality[:cut], (part[1], quality[cut:size]))
            wall, cpu = now() - before
            started = time.perf_counter()
            model.predict(part[2])
            took = time.perf_counter() - started
        assert model.out_of_fold is not None
        truth, found = (split_level(values)[0] for values in (quality[:size], model.out_of_fold))
        rows.append(
            {
                "prompts": size,
                "compared": len(model._weights),
                "seconds": wall,
                "cpu_seconds": cpu,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "explained": 1 - ((truth - found) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum(),
                "predicts_per_s": PREDICTED / took,
                **place,
            }
        )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown."""
    line = "{prompts:,} | {compared:,} | {seconds:,.0f} | {cpu_seconds:,.0f} | {peak_gib:.1f} | {explained:.1f} | {predicts_per_s:,.0f}"
    lines = cells(rows.assign(explained=100 * rows["explained"]), line)
    return f"{measured_on(rows)}\n\n{markdown(HEAD, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("kernel_size", __doc__, quick="500 prompts")
    parser.add_argument(
        "--sizes", type=numbers, default=list(SIZES), help="prompts learnt from (default: 20000,45000)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of the linear algebra (default: %(default)s)")
    parser.add_argument("--points", type=int, help="see promptroute.predictors.kernel (default: by itself)")
    return run(
        parser,
        arguments,
        CSV,
        lambda chosen: measure(
            [500] if chosen.quick else chosen.sizes, chosen.threads, {"points": chosen.points}
        ),
        table,
    )


if __name__ == "__main__":
    run_stage(main)
