"""The feedback network at its true size, ViT-L/16 at 384 pixels and T5-base, with random weights.

    python -m benchmarks.feedback                     one batch of 2 on the CPU
    python -m benchmarks.feedback --device cuda --batch 32 --rounds 20     images a second on a GPU, in bfloat16
    python -m benchmarks.feedback --table             only print the table of benchmarks/results/feedback.csv

Counts its distinct parameters, and times the pass that gives scores and maps; words are written after it.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import here, measured_on, now
from benchmarks.reporting import RESULTS, markdown, options, run
from promptroute.feedback.checkpoint import TIED
from promptroute.feedback.settings import NetworkSettings
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "feedback.csv"
PARAMETERS = 642_612_710
"""Of the public checkpoint, the embedding counted once."""
TOKENS = 24  # of a prompt


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return rows, one a round after the first, which warms up (alone it counts where it is the only one).

    Raises:
        AssertionError: the network has another number of parameters, or gives something else than scores and maps.
    """
    import torch

    from promptroute.feedback.network import FeedbackNetwork

    place = here(threads=torch.get_num_threads())
    settings = NetworkSettings()
    network = FeedbackNetwork(settings).eval().to(options.device)
    count = sum(value.numel() for name, value in network.state_dict().items() if name not in TIED)
    if count != PARAMETERS:
        raise AssertionError(f"{count} parameters, expected {PARAMETERS}")
    rng = np.random.default_rng(0)
    n, side = options.batch, settings.image_side
    pixels = rng.normal(size=(n, 3, side, side)).astype(np.float32)
    ids = rng.integers(2, settings.vocabulary, (n, TOKENS))
    lengths = np.full(n, TOKENS)
    gpu = options.device.startswith("cuda")
    rows = []
    for turn in range(options.rounds + (options.rounds > 1)):
        before = now()
        with torch.autocast(options.device.partition(":")[0], torch.bfloat16, enabled=gpu):
            given = network.predict(pixels, ids, lengths)
        maps = given["heatmap_misalignment"].float().cpu()
        took = now() - before
        if maps.shape != (n, side, side) or not bool(((maps >= 0) & (maps <= 1)).all()):
            raise AssertionError(f"maps of shape {tuple(maps.shape)}")
        rows.append(
            {
                "parameters": count,
                "device": torch.cuda.get_device_name() if gpu else "CPU",
                "precision": "bfloat16" if gpu else "float32",
                "batch": n,
                "round": turn,
                "seconds": took[0],
                "cpu_seconds": took[1],
                **place,
            }
        )
    return rows[options.rounds > 1 :]


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: medians over rounds."""
    lines = [
        [
            f"{device}, {precision}",
            f"{own['parameters'].iloc[0]:,}",
            str(batch),
            f"{own['seconds'].median():.3g}",
            f"{own['cpu_seconds'].median():.3g}",
            f"{batch / own['seconds'].median():.3g}",
        ]
        for (device, precision, batch), own in rows.groupby(["device", "precision", "batch"])
    ]
    head = "device | distinct parameters | images a batch | seconds | of processor time | images a second"
    return f"{measured_on(rows)}\n\n{markdown(head, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("feedback", __doc__)
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="images a batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="(default: %(default)s)")
    return run(parser, arguments, CSV, measure, table)


if __name__ == "__main__":
    run_stage(main)
