"""Semantic consistency of all prompts at once against the original's loop over pairs.

    python -m benchmarks.consistency              10,000 prompts × 3 images and 100 × 20, in five rounds
    python -m benchmarks.consistency --quick      one round, the loop on a tenth of the 10,000 prompts
    python -m benchmarks.consistency --table      only print the table of benchmarks/results/consistency.csv

The loop does what the public code of arXiv 2404.08799 does once images are embedded: for each pair of a prompt's
images a call of torch.cosine_similarity, whose value is scaled and appended to a list; without its progress bars.
Both use one thread, alternate, and must give the same scores.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on, now, single_threaded
from benchmarks.reporting import RESULTS, markdown, options, run_rounds, speedup
from promptroute.runtime.stage import run_stage
from promptroute.scorers.consistency import semantic_consistency

CSV = RESULTS / "consistency.csv"
CASES = ((10_000, 3, 1_000), (100, 20, 100))
"""Prompts, images of each, and on how many of the prompts the loop is timed with --quick."""
DIMENSION = 512  # of CLIP ViT-B/32, the original's
CALLS = 5  # of ours in each round, since a call takes milliseconds
TOLERANCE = 1e-4  # of 100; the loop's numbers are float32


def embeddings(prompts: int, images: int, seed: int = 0) -> np.ndarray:
    """Make float32 [prompts, images, d]: similar within a prompt, from hardly (with cosines below 0) to very."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=(prompts, 1, DIMENSION)) * random.uniform(0, 3, (prompts, 1, 1))
    return (shared + random.normal(size=(prompts, images, DIMENSION))).astype(np.float32)


def pair_by_pair(vectors: Any) -> list[float]:
    """Score pair by pair, as the original, from a tensor [prompts, images, d]."""
    import torch

    scores = []
    for own in vectors:
        alike = []
        for i, j in combinations(range(len(own)), 2):
            alike.append(max(100 * torch.cosine_similarity(own[i], own[j], dim=0).item(), 0.0))
        scores.append(torch.tensor(alike).mean().item())
    return scores


def measure(prompts: int, images: int, part: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows, one a round; the loop's seconds are scaled up where it ran on only `part` of the prompts.

    Raises:
        AssertionError: the two ways' scores differ.
    """
    import torch

    place = here(threads=1)
    vectors = embeddings(prompts, images)
    flat, groups = vectors.reshape(-1, DIMENSION), np.repeat(np.arange(prompts), images)
    tensors = torch.from_numpy(vectors[:part])
    rows = []
    with single_threaded(), torch.no_grad():
        pair_by_pair(tensors[:20])
        scores = semantic_consistency(flat, groups, prompts)
        for turn in range(rounds):
            before = now()
            expected = pair_by_pair(tensors)
            loop = (now() - before) * prompts / part
            took = []
            for _ in range(CALLS):
                before = now()
                scores = semantic_consistency(flat, groups, prompts)
                took.append(now() - before)
            ours = np.median(took, axis=0)
            difference = float(np.abs(scores[:part] - expected).max())
            if not difference <= TOLERANCE:
                raise AssertionError(f"{prompts} × {images}: the two ways differ by {difference} of 100")
            rows.append(
                {
                    "prompts": prompts,
                    "images": images,
                    "dimension": DIMENSION,
                    "looped_prompts": part,
                    "round": turn,
                    "loop_s": loop[0],
                    "loop_cpu_s": loop[1],
                    "ours_s": ours[0],
                    "ours_cpu_s": ours[1],
                    "difference": difference,
                    **place,
                }
            )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds; a ratio is the median of the rounds' ratios."""
    head = (
        "prompts × images | pairs | pair by pair, s | at once, s | ratio | ratio, CPU time | "
        "largest difference"
    )
    lines = []
    for (prompts, images), own in rows.groupby(["prompts", "images"], sort=False):
        part = own["looped_prompts"].min()
        cpu = own["loop_cpu_s"] / own["ours_cpu_s"]
        lines.append(
            [
                f"{prompts:,} × {images}" + (f" (loop on {part:,}, scaled up)" if part < prompts else ""),
                f"{prompts * images * (images - 1) // 2:,}",
                f"{own['loop_s'].median():.3g}",
                f"{own['ours_s'].median():.3g}",
                speedup(own["loop_s"], own["ours_s"], 0, f", {len(own)} rounds"),
                f"{cpu.median():.0f} ×",
                f"{own['difference'].max():.1g} of 100",
            ]
        )
    return f"{measured_on(rows)}\n\n{markdown(head, lines)}"


def measure_all(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of all cases; a quick try loops over a part of the prompts."""
    return [
        row
        for prompts, images, part in CASES
        for row in measure(prompts, images, part if quick else prompts, rounds)
    ]


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("consistency", __doc__, quick="one round, the loop on a part")
    return run_rounds(parser, arguments, CSV, measure_all, table)


if __name__ == "__main__":
    run_stage(main)
