"""Figures of docs/results.md and benchmarks/README.md, each by one command.

    python -m benchmarks          what there is, what it shows, how long it takes
    python -m benchmarks short    run the short ones (`make bench`)
    python -m benchmarks write    write the tables of benchmarks/results/ into the pages that show them

A page shows a table between `<!-- benchmarks.NAME -->` and `<!-- end -->`.
"""

import argparse
import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from promptroute.core.errors import UserError
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage

HERE = Path(__file__).parent
PAGES = (*(HERE.parent / "docs" / name for name in ("results.md", "scale.md")), HERE / "README.md")
LIST = {
    "routers": ("every predictor x score x split seed: accuracy, cost, frontier, training time", "an hour"),
    "shift": ("trained without one prompt set, tested on it; and the fallback", "ten minutes"),
    "search": (
        "a look at each image before the next: cost, quality, images, budget, guarantee",
        "five minutes",
    ),
    "guarantee": ("coverage of the conformal guarantee over 200 splits", "five minutes"),
    "budget": ("a budget in dollars: gap to the linear relaxation; prompt by prompt", "five minutes"),
    "scores": ("NIMA and CLIP at once: weights and Pareto rules", "five minutes"),
    "tables": (
        "people's and judges' scores of many models: before, by two images; needs --folder",
        "ten minutes",
    ),
    "world": (
        "a search judged by the small world's checker and on fresh images; generates 8,000 images once",
        "twenty minutes",
    ),
    "cluster": ("shards on Ray: kills, two workers against one, many simulated", "ten minutes"),
    "generation": ("the small models: images/s on the CPU against plain diffusers", "ten minutes"),
    "size": ("every stage but those on images at 50,000 prompts: seconds, memory", "half an hour"),
    "growth": ("10 % more prompts, a seed, a scorer: what each costs, by dvc repro", "five minutes"),
    "consistency": ("semantic consistency at once against a loop over pairs", "a minute"),
    "bootstrap": ("bootstrap intervals of a router's figures against a plain loop", "a minute"),
    "auc": ("AUC-Judd of a map by sorting against a loop over thresholds", "a minute"),
    "feedback": (
        "the feedback network at its true size: parameters counted, a batch timed; --device cuda",
        "a minute",
    ),
    "kernel_size": ("the kernel predictor on 45,000 and 60,000 prompts: seconds and memory", "half an hour"),
    "features": ("features of a prompt against scikit-learn's vectorizer", "a minute"),
    "shards": ("dvc add and status: 20,000 images as shards and as files", "two minutes"),
    "recovery": ("image to prompt: attributes, round trip, learners, speed; needs a recovery", "ten minutes"),
    "threads": ("small operations by threads, on idle and on busy cores", "three minutes"),
    "latency": ("a prompt alone and batches, on one core; needs data/router (`make`)", "a minute"),
    "paper_models": ("the papers' models: parameters and operations counted; --measure on a GPU", "a minute"),
    "service_load": ("the service under load; needs data/router (`make`)", "a minute"),
}
"""module → what it shows, and about how long it takes on two CPU cores; seconds where its fits are cached."""
SHORT = ("guarantee", "budget", "scores", "consistency", "bootstrap", "auc", "features", "shards")
"""The first three share ten fits of the study's predictor."""
TABLES = {
    **{name: (name, "table", "CSV") for name in LIST if name not in ("threads", "latency", "service_load")},
    "routers_paired": ("routers", "paired_table", "PAIRED"),
    "cluster_efficiency": ("cluster", "efficiency_table", "EFFICIENCY"),
    "paper_speed": ("paper_speed", "table", "CSV"),
}
"""name of a table → its module, the function that prints it, and where its results are."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["list", "short", "write"], default="list")
    return parser.parse_args(arguments)


def write_tables(page: Path) -> list[str]:
    """Update the tables of a page that have results; return their names.

    Raises:
        UserError: a mark names an unknown table.
    """
    names = []

    def updated(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            raise UserError(f"{page.name}: {name!r} is an unknown table; known: {', '.join(TABLES)}")
        module = importlib.import_module(f"benchmarks.{TABLES[name][0]}")
        results = getattr(module, TABLES[name][2])
        if not results.exists():
            return f"{found['mark']}\nNot measured yet.\n{found['end']}"
        names.append(name)
        return f"{found['mark']}\n{getattr(module, TABLES[name][1])(pd.read_csv(results))}\n{found['end']}"

    marks = r"(?P<mark><!-- benchmarks\.(?P<name>\w+) -->)\n.*?(?P<end><!-- end -->)"
    text = re.sub(marks, updated, page.read_text(encoding="utf-8"), flags=re.DOTALL)
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return names


def main(arguments: Sequence[str] | None = None) -> str:
    what = parse(arguments).what
    if what == "short":
        run = {name: importlib.import_module(f"benchmarks.{name}").main([]) for name in SHORT}
        return "\n\n".join(f"## {LIST[name][0]}\n\n{shown}" for name, shown in run.items())
    if what == "write":
        done = {"/".join(page.parts[-2:]): write_tables(page) for page in PAGES if page.exists()}
        return "\n".join(f"{name}: {', '.join(tables) or 'no table'}" for name, tables in done.items())
    width = max(map(len, LIST))
    lines = [
        f"python -m benchmarks.{name:{width}}  {shows} ({takes})" for name, (shows, takes) in LIST.items()
    ]
    return "\n".join([*lines, "", f"python -m benchmarks short   runs {', '.join(SHORT)}"])


if __name__ == "__main__":
    run_stage(main)
