"""Every stage but those that need images, at the size of the paper's study: seconds and peak memory of each.

    python -m benchmarks.size                                    12,500 and 50,000 prompts, predictor=ridge
    python -m benchmarks.size --predictor kernel                 the usual predictor, with its own encoder
    python -m benchmarks.size --prompts 2000 --quick             a try; writes no results
    python -m benchmarks.size --table                            only print the table of benchmarks/results/size.csv

The real stages of the default study, each a process of its own as DVC starts it, in a temporary project. Prompts are
synthetic: captions of the small world with words of a made-up vocabulary (30,000 words, as often as Zipf has it), through
the real text encoder. In place of images of 4 models and 3 seeds stand tiny ones, all alike, and scores that hang on a
prompt's set and length and on chance. So the figures are about seconds and memory alone.

*Growth* is a stage's seconds at the larger size over those at the smaller: as the prompts where it is linear, the square
of that where it is quadratic; less than both where most of it is start-up.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.generation import MINI, seeds_of
from benchmarks.machine import here, measured_on
from benchmarks.reporting import RESULTS, ROOT, markdown, numbers, options, run
from promptroute.core.rows import Prompt
from promptroute.io.tables import read_table
from promptroute.runtime.compose import compose
from promptroute.runtime.params import Params, load_params
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "size.csv"
WORDS, SYLLABLES = 30_000, [first + last for first in "bdfgklmn" for last in "aeio"]
PAPER = ("split.shares=[0.8,0.1,0.1]", "prompts.sources.mini.path=prompts")
BEFORE = ("read mini", "sample", "describe", "split", "encode {encoder}")
AFTER = ("table", "compare", "agreement", "train", "calibrate", "evaluate", "report")
"""Stages and their arguments, around what stands in for generating, embedding and scoring."""


def texts(prompt_set: str, n: int) -> Iterator[str]:
    """Generate n prompts of a set: a caption of the small world, and up to nine made-up words."""
    from mini.captions import PROMPT_SETS

    rng = np.random.default_rng([0, list(PROMPT_SETS).index(prompt_set)])
    for _ in range(n):
        ranks = rng.zipf(1.2, rng.integers(1, 10)) % WORDS
        words = ("".join(SYLLABLES[rank // 32**place % 32] for place in range(3)) for rank in map(int, ranks))
        yield f"{PROMPT_SETS[prompt_set](rng, True).text} {' '.join(words)}"


def write_prompts(folder: Path, n: int) -> None:
    """Write a file of each prompt set, n prompts in all and somewhat more, since equal ones are merged."""
    from mini.captions import PROMPT_SETS

    folder.mkdir()
    for name in PROMPT_SETS:
        many = int(1.05 * n / len(PROMPT_SETS)) + 10
        pd.DataFrame({"prompt": list(texts(name, many))}).to_csv(folder / f"{name}.csv", index=False)


def write_images(params: Params, prompts: pd.DataFrame) -> None:
    """Write shards of tiny images, and the image encoder's embeddings of the prompts."""
    from PIL import Image as Pillow

    from promptroute.core.image import Image
    from promptroute.generators.study import Generation
    from promptroute.io.images import write_shard

    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), "red").save(file, format="PNG")
    generation = Generation.read(params["generation"], "generation")
    for model in params["models"]:
        shards = generation.shards(list(prompts["prompt_id"]), list(prompts["prompt"]))
        for number, shard in enumerate(shards):
            rows = [
                Image(one.prompt_id, one.prompt, model, one.seed, "ok", None, 8, 8, file.getvalue(), 0)
                for one in shard
            ]
            write_shard(f"data/images/{model}/part-{number:05d}.parquet", rows, "synthetic")


def write_made_scores(params: Params, prompts: pd.DataFrame) -> None:
    """Write scores of every scorer and model, within each output's own range; of a prompt and image they are noise plus a
    part that its set and length decide."""
    from promptroute.io.scores import scores_folder, write_scores
    from promptroute.runtime.params import scorer_outputs
    from promptroute.scorers.base import PromptGroupBatch, build_scorer

    rng, seeds = np.random.default_rng(0), seeds_of(params)
    kinds = pd.factorize(prompts["set"])[0]
    length = np.tanh(prompts["prompt"].str.split().str.len().to_numpy() / 20 - 1)
    for name, section in params["scorers"].items():
        scorer = build_scorer(section, f"scorers.{name}", "cpu")
        own = [None] if scorer.inputs is PromptGroupBatch else seeds
        for model in params["models"]:
            tables = []
            for output in scorer_outputs(section, name).values():
                if output.kind != "score":
                    continue
                known = rng.normal(size=kinds.max() + 1)[kinds] + rng.normal() * length
                value = (
                    known[:, None]
                    + rng.normal(size=(len(prompts), 1))
                    + rng.normal(size=(len(prompts), len(own)))
                )
                low, high = max(output.low, -100.0), min(output.high, 100.0)
                value = low + (high - low) / (1 + np.exp(-value))
                frame = pd.DataFrame({"prompt_id": np.repeat(prompts["prompt_id"].to_numpy(), len(own))})
                frame["seed"] = pd.array(own * len(prompts), "Int64")
                images = len(seeds) if own == [None] else 1
                tables.append(
                    frame.assign(output=output.name, value=value.reshape(-1), images=images, seconds=np.nan)
                )
            about = {"scorer": name, "model": model, "class": scorer.class_path()}
            write_scores(scores_folder(name, model) / "scores.parquet", pd.concat(tables), about)


def stage(line: str, folder: Path) -> dict[str, Any]:
    """Run a stage as DVC does; return its seconds, processor seconds and most memory in MB.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    said, started = folder / "said.txt", time.perf_counter()
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *f"stages.{line}".split()],
            cwd=folder,
            env={"DVC_ROOT": str(folder), **os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{line}: exit {process.returncode}\n{said.read_text()[-3000:]}")
    print(f"{folder.name}: {said.read_text().splitlines()[-1]}", file=sys.stderr, flush=True)
    return {
        "stage": line,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }


def measure(prompts: int, predictor: str) -> list[dict[str, Any]]:
    """Return rows, one a stage."""
    place = here(2)
    with TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("mini", "hydra_plugins", "conf", "promptroute"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "data" / "none").mkdir(parents=True)
        (folder / "data" / "profile").mkdir()
        write_prompts(folder / "prompts", prompts)
        overrides = [*MINI, f"predictor={predictor}", f"prompts.n={prompts}", *PAPER]
        compose(folder / "params.yaml", overrides, folder)
        params = load_params(folder / "params.yaml")
        encoder = next(iter(params["text_encoder"]))
        rows = [stage(line.format(encoder=encoder), folder) for line in BEFORE]
        before = Path.cwd()
        os.chdir(folder)  # paths of data/ are the working folder's
        try:
            sampled = read_table("data/prompts.parquet", Prompt)
            write_images(params, sampled)
            write_made_scores(params, sampled)
        finally:
            os.chdir(before)
        rows += [stage(line, folder) for line in AFTER]
    return [{"prompts": prompts, "predictor": predictor, **row, **place} for row in rows]


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown: a row a stage, seconds and memory of each size, and how the seconds grow."""
    sizes = sorted(rows["prompts"].unique())
    lines = []
    for (predictor, name), own in rows.groupby(["predictor", "stage"], sort=False):
        by = own.set_index("prompts")
        cells = [
            f"{by.at[size, column]:,.{digits}f}"
            for size in sizes
            for column, digits in (("seconds", 1), ("cpu_seconds", 1), ("peak_mb", 0))
        ]
        growth = by.at[sizes[-1], "cpu_seconds"] / by.at[sizes[0], "cpu_seconds"]
        lines.append([f"{name} ({predictor})" if name == "train" else name, *cells, f"{growth:.1f} ×"])
    head = " | ".join(f"{size:,}: s | CPU-s | MB" for size in sizes)
    return f"{measured_on(rows)}\n\n{markdown(f'stage | {head} | growth', lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("size", __doc__, quick="no results")
    parser.add_argument("--prompts", type=numbers, default=[12_500, 50_000], help="(default: 12500,50000)")
    parser.add_argument(
        "--predictor", default="ridge", help="option of conf/predictor/ (default: %(default)s)"
    )
    return run(
        parser,
        arguments,
        CSV,
        lambda chosen: [row for size in chosen.prompts for row in measure(size, chosen.predictor)],
        table,
    )


if __name__ == "__main__":
    run_stage(main)
