"""What an addition to a study costs: 10 % more prompts, another seed, another scorer.

    python -m benchmarks.growth                           one model, 300 prompts
    python -m benchmarks.growth --model mini-student --prompts 200
    python -m benchmarks.growth --quick                   20 prompts; writes no results
    python -m benchmarks.growth --table                   only print the table of benchmarks/results/growth.csv

The real stages, by `dvc repro`, in a temporary copy of the project with one of the small models: first everything, then
each addition to what exists by then. `dvc repro generate` includes `sample`; its time is that of the whole command, in
which DVC, Python and the libraries start and the model loads, which takes the same however few images are new.
*Start-up* is the same command run again with nothing to generate.

Each step is run once: a second full generation would double the time, and the steps are long.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.generation import MINI, seeds_of, settings
from benchmarks.machine import command, dvc_environment, here, measured_on
from benchmarks.reporting import RESULTS, ROOT, markdown, options, run
from promptroute.core.errors import UserError
from promptroute.runtime.compose import compose
from promptroute.runtime.stage import run_stage

CSV = RESULTS / "growth.csv"
COPIED = ("promptroute", "stages", "conf", "mini", "data/none", "dvc.yaml", ".dvcignore")
LATER = "nima"
"""The scorer that is added last: it reads pixels, so it is the most expensive."""
NEW = re.compile(r"generate: \d+ images of \S+ on \S+, (\d+) generated now(?: at ([\d.]+)/s)?")
RAN = re.compile(r"Running stage '([^']+)'")


def new_images(said: str) -> tuple[int, float]:
    """Read from the generate stage's output how many images it generated, and in how many seconds."""
    found = NEW.search(said)
    if found is None:  # DVC saw that there was nothing to do
        return 0, 0.0
    return int(found[1]), int(found[1]) / float(found[2]) if found[2] else 0.0


class Copy:
    """A temporary copy of the project with a single model; nothing is written outside of `folder`.

    Args:
        folder: an empty folder, for the project and DVC's own files.
        model: the study's only model.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.project, self.model = folder / "project", model
        self.environment = dvc_environment(folder)
        params = settings()
        if model not in params["models"]:
            raise UserError(
                f"--model {model}: no such small model; choose from {', '.join(params['models'])}"
            )
        self._others = [f"~models.{name}" for name in params["models"] if name != model]
        self.project.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, self.project / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy2(ROOT / name, self.project / name)
        for name in ("images", "profile"):
            (self.project / "data" / name).mkdir()
        self.run("dvc", "init", "--no-scm", "--quiet")

    def run(self, *arguments: str) -> tuple[Any, str]:
        """Run a Python module's command line in the copy."""
        return command(list(arguments), self.project, self.environment)

    def configure(self, prompts: int, seeds: Sequence[int], later: bool) -> None:
        """Compose the study's parameters."""
        overrides = [*MINI, *self._others, f"prompts.n={prompts}", f"generation.seeds={list(seeds)}"]
        compose(self.project / "params.yaml", [*overrides, *([] if later else [f"~scorers.{LATER}"])], ROOT)

    def grow(self, what: str, *options: str) -> dict[str, Any]:
        """Run what is new: first the images, then their embeddings and scores."""
        generate, said = self.run("dvc", "repro", *options, f"generate@{self.model}")
        images, seconds = new_images(said)
        ran = RAN.findall(said)
        row = {
            "model": self.model,
            "what": what,
            "images": images,
            "generate_s": generate[0],
            "generate_cpu_s": generate[1],
            "generation_s": seconds,
        }
        if not options:
            score, said = self.run("dvc", "repro", "score")
            ran += RAN.findall(said)
            row |= {"score_s": score[0], "score_cpu_s": score[1]}
        return row | {"ran": " ".join(ran)}


def measure(model: str, prompts: int, seeds: list[int], threads: int) -> list[dict[str, Any]]:
    """Return rows, one a step."""
    place = here(threads)
    more = prompts + -(-prompts // 10)
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder), model)
        copy.configure(prompts, seeds, later=False)
        # Warm-up: imports are read from disk before anything is timed.
        copy.run("timeit", "-n1", "-r1", "from diffusers import DiffusionPipeline; import open_clip, pandas")
        copy.run("dvc", "status", "sample")
        rows = [copy.grow(f"everything: {prompts} prompts, seeds {seeds}")]
        rows.append(copy.grow("start-up", "--force", "--single-item"))
        copy.configure(more, seeds, later=False)
        rows.append(copy.grow(f"{more - prompts} prompts more"))
        copy.configure(more, [*seeds, max(seeds) + 1], later=False)
        rows.append(copy.grow("a seed more"))
        copy.configure(more, [*seeds, max(seeds) + 1], later=True)
        rows.append(copy.grow(f"a scorer more ({LATER})"))
    return [{**row, **place} for row in rows]


def table(rows: pd.DataFrame) -> str:
    """Format the table in Markdown; shares are of the first row."""
    head = (
        "what is new | new images | `dvc repro generate`, s | of everything | generation only, s | "
        "of everything | embed and score, s | of everything | stages that ran"
    )
    first = rows.iloc[0]

    def cells(row: Any, name: str) -> list[str]:
        value = row[name]
        return ["–", "–"] if pd.isna(value) else [f"{value:.1f}", f"{100 * value / first[name]:.1f} %"]

    lines = []
    for _, row in rows.iterrows():
        ran = row["ran"] if isinstance(row["ran"], str) else ""  # an empty cell of the file is a NaN
        names = [name.replace(f"@{row['model']}", "").replace(f"-{row['model']}", "") for name in ran.split()]
        lines.append(
            [
                str(row["what"]),
                str(row["images"]),
                *(part for name in ("generate_s", "generation_s", "score_s") for part in cells(row, name)),
                ", ".join(names) or "none",
            ]
        )
    return f"Model {first['model']}. {measured_on(rows)}\n\n{markdown(head, lines)}"


def main(arguments: Sequence[str] | None = None) -> str:
    parser = options("growth", __doc__, quick="20 prompts")
    parser.add_argument("--model", default="mini-unet", help="(default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=300, help="at first (default: %(default)s)")
    params = settings()
    return run(
        parser,
        arguments,
        CSV,
        lambda chosen: measure(
            chosen.model,
            20 if chosen.quick else chosen.prompts,
            seeds_of(params),
            params["compute"]["threads"],
        ),
        table,
    )


if __name__ == "__main__":
    run_stage(main)
