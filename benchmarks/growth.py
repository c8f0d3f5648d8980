"""What it costs to let a drawn study grow: 10 % more prompts, another seed, another scorer.

    python -m benchmarks.growth                           one model, the study's number of prompts
    python -m benchmarks.growth --model mini-student --prompts 200
    python -m benchmarks.growth --quick                   20 prompts; writes no results
    python -m benchmarks.growth --table                   only print the table of benchmarks/results/growth.csv

The real stages, by `dvc repro`, in a temporary copy of the project with one model of the small world: first
everything, then each addition to what is there by then. `dvc repro generate` includes `sample`; its time is that of
the whole command, with DVC, Python and the libraries starting and the model loading, which cost the same however
few images are new. *Start-up* is the same command made to run once more with nothing to draw.

Each step is run once: a second full generation would double the time, and the steps are long.
"""

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks import study as S
from benchmarks.drawing import MINI, settings
from benchmarks.machine import command, dvc_environment, finish, here, measured_on, parser
from promptroute.core.errors import UserError
from promptroute.runtime.compose import ROOT, compose
from promptroute.runtime.stage import run_stage

CSV = S.RESULTS / "growth.csv"
COPIED = ("stages", "conf", "mini", "dvc.yaml", ".dvcignore")
LATER = "nima"
"""The scorer that is added last: the one that looks at pixels, and so the dearest."""
DRAWN = re.compile(r"generate: \d+ images of \S+ on \S+, (\d+) generated now(?: at ([\d.]+)/s)?")
RAN = re.compile(r"Running stage '([^']+)'")


def drawn_now(said: str) -> tuple[int, float]:
    """How many images a run of the generate stage says it drew, and in how many seconds."""
    found = DRAWN.search(said)
    if found is None:  # DVC saw that there was nothing to do
        return 0, 0.0
    return int(found[1]), int(found[1]) / float(found[2]) if found[2] else 0.0


class Copy:
    """A temporary copy of the project with one model; nothing of it is left outside of `folder`.

    Args:
        folder: an empty one, for the project and DVC's own files.
        model: which is drawn with.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.project, self.model = folder / "project", model
        self.environment = dvc_environment(folder)
        params = settings()
        if model not in params["models"]:
            raise UserError(
                f"--model {model}: not one of the small world's: {', '.join(params['models'])}; give one of these"
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
            (self.project / "data" / name).mkdir(parents=True)
        self.run("dvc", "init", "--no-scm", "--quiet")

    def run(self, *arguments: str) -> tuple[Any, str]:
        """A Python module's command line in the copy."""
        return command(list(arguments), self.project, self.environment)

    def choose(self, prompts: int, seeds: Sequence[int], later: bool) -> None:
        """Say what the study is."""
        overrides = [*MINI, *self._others, f"prompts.n={prompts}", f"generation.seeds={list(seeds)}"]
        compose(self.project / "params.yaml", [*overrides, *([] if later else [f"~scorers.{LATER}"])])

    def grow(self, what: str, *options: str) -> dict[str, Any]:
        """Run what is new: first the images, then their embeddings and scores."""
        generate, said = self.run("dvc", "repro", *options, f"generate@{self.model}")
        drawn, seconds = drawn_now(said)
        ran = RAN.findall(said)
        row = {
            "model": self.model,
            "what": what,
            "drawn": drawn,
            "generate_s": generate[0],
            "generate_cpu_s": generate[1],
            "drawing_s": seconds,
        }
        if not options:
            score, said = self.run("dvc", "repro", "score")
            ran += RAN.findall(said)
            row |= {"score_s": score[0], "score_cpu_s": score[1]}
        return row | {"ran": " ".join(ran)}


def measure(model: str, prompts: int, seeds: list[int], threads: int) -> list[dict[str, Any]]:
    """Rows, one a step."""
    place = here(threads)
    more = prompts + -(-prompts // 10)
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder), model)
        copy.choose(prompts, seeds, later=False)
        # Warm-up: what is imported is read from the disk before anything is timed.
        copy.run("timeit", "-n1", "-r1", "from diffusers import DiffusionPipeline; import open_clip, pandas")
        copy.run("dvc", "status", "sample")
        rows = [copy.grow(f"everything: {prompts} prompts, seeds {seeds}")]
        rows.append(copy.grow("start-up", "--force", "--single-item"))
        copy.choose(more, seeds, later=False)
        rows.append(copy.grow(f"{more - prompts} prompts more"))
        copy.choose(more, [*seeds, max(seeds) + 1], later=False)
        rows.append(copy.grow("a seed more"))
        copy.choose(more, [*seeds, max(seeds) + 1], later=True)
        rows.append(copy.grow(f"a scorer more ({LATER})"))
    return [{**row, **place} for row in rows]


def table(rows: pd.DataFrame) -> str:
    """The table in Markdown; shares are of the first row."""
    head = [
        "what is new",
        "images drawn",
        "`dvc repro generate`, s",
        "of everything",
        "drawing alone, s",
        "of everything",
        "embed and score, s",
        "of everything",
        "stages that ran",
    ]
    first = rows.iloc[0]

    def shown(row: Any, name: str) -> list[str]:
        value = row[name]
        return ["–", "–"] if pd.isna(value) else [f"{value:.1f}", f"{100 * value / first[name]:.1f} %"]

    lines = []
    for _, row in rows.iterrows():
        ran = row["ran"] if isinstance(row["ran"], str) else ""  # an empty cell of the file is a NaN
        names = [name.replace(f"@{row['model']}", "").replace(f"-{row['model']}", "") for name in ran.split()]
        lines.append(
            [
                str(row["what"]),
                str(row["drawn"]),
                *(part for name in ("generate_s", "drawing_s", "score_s") for part in shown(row, name)),
                ", ".join(names) or "none",
            ]
        )
    return f"Model {first['model']}. {measured_on(rows)}\n\n{S.markdown(head, lines)}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = parser("growth", __doc__, quick="20 prompts")
    options.add_argument("--model", default="mini-unet", help="(default: %(default)s)")
    options.add_argument("--prompts", type=int, default=300, help="at first (default: %(default)s)")
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> str:
    chosen = parse(arguments)
    if chosen.table:
        return table(pd.read_csv(CSV))
    params = settings()
    prompts = 20 if chosen.quick else chosen.prompts
    rows = measure(chosen.model, prompts, params["generation"]["seeds"], params["compute"]["threads"])
    return finish(rows, CSV, table, chosen.quick)


if __name__ == "__main__":
    run_stage(main)
