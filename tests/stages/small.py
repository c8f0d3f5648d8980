"""A study that runs in seconds: the published layout, filled with made-up prompts and scores.

Its files are named as CEMS's are, so the committed conf/ reads them: only `text_encoder=none` spares the encoder.
"""

import contextlib
import io
import runpy
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from promptroute.cli.main import main as command_line
from promptroute.core.errors import UserError
from promptroute.runtime.compose import compose
from promptroute.runtime.stage import run_stage

STEMS = {"sdxl-turbo": "SDXL-Turbo", "sd-turbo": "SD-Turbo", "amused": "amused", "taesd-sd21": "TAESD"}
SCORERS = {"nima": (5.0, 0.4), "clip": (33.0, 3.0)}
"""scorer → (mean, how much a topic moves it)."""
TOPICS = ("portrait", "logo", "landscape", "robot")
"""Model i generates topic i best: what there is to learn."""
SETS = ("DRAW", "PP", "DIFF")
BASE = (
    "experiment=published",
    "text_encoder=none",
    "predictor=ridge",
    "compute=cpu",
    "evaluate.resamples=20",
)
"""Overrides of the default study: no encoder, a predictor that leaves validation alone, and few resamples."""


def table(n: int = 150, seed: int = 0) -> pd.DataFrame:
    """n rows: dataset_id, prompt_id, prompt, and per (scorer, model) a column, as `nima sdxl-turbo`."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, len(TOPICS), n)
    places = random.choice(["by the sea", "at night", "in oil, detailed", "on a hill", "of glass"], n)
    sets = random.choice(SETS, n)
    rows = {
        "dataset_id": sets,
        "prompt_id": [f"{name}{number}" for number, name in enumerate(sets)],
        "prompt": [
            f"a {TOPICS[t]} {place}, number {i}"
            for i, (t, place) in enumerate(zip(topic, places, strict=True))
        ],
    }
    for scorer, (mean, gain) in SCORERS.items():
        level = random.normal(0, 0.5, n)
        for column, model in enumerate(STEMS):
            rows[f"{scorer} {model}"] = mean + level + gain * (topic == column) + random.normal(0, 0.05, n)
    return pd.DataFrame(rows)


def path_of(scorer: str, model: str) -> str:
    """Where a file of the table stands, below its root."""
    return f"Model_Perf/aug_10k/{scorer}_score_with_time_{STEMS[model]}.csv"


def write_published(root: Path, rows: pd.DataFrame) -> None:
    """Write the table's eight files, and prompt sets of a few rows."""
    for scorer in SCORERS:
        for column, model in enumerate(STEMS):
            file = root / path_of(scorer, model)
            file.parent.mkdir(parents=True, exist_ok=True)
            rows[["dataset_id", "prompt_id", "prompt"]].assign(
                mean_time=0.1 * (column + 1), **{f"{scorer}_score": rows[f"{scorer} {model}"]}
            ).to_csv(file, index=False)
    sets = root / "Prompt_Datasets"
    sets.mkdir(exist_ok=True)
    for name in ("MS-COCO", "LN-COCO"):
        (sets / f"{name}.csv").write_text(
            "prompt_id,prompt\n1,a dog runs\n2,a dog runs\n3,one two three four\n"
        )
    (sets / "DrawBench.csv").write_text("Prompts,Category\nA red car.,Colors\n")
    (sets / "PartiPrompts.tsv").write_text("Prompt\tCategory\nbond\tAbstract\n")
    (sets / "DiffusionDB_sample_seed42.csv").write_text('image_name,prompt\na.png,"a b, c"\n')


@dataclass(frozen=True)
class Ran:
    """What a stage left on the terminal."""

    status: int
    out: str
    err: str


def run(folder: Path, stage: str, *arguments: str, stdin: bytes = b"", **environment: str) -> Ran:
    """Run a stage's `main` in this process, as `python -m stages.STAGE` or `promptroute` does in `folder`."""
    command = stage in ("route", "serve")
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        patch.setenv("PROMPTROUTE_CEMS", str(folder / "cems"))
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(
            sys, "argv", ["promptroute", stage, *arguments] if command else [f"stages.{stage}", *arguments]
        )
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            if command:
                run_stage(command_line)
            else:
                runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Ran(status, out.getvalue(), err.getvalue())


def judge(folder: Path, *arguments: str) -> Ran:
    """Run `promptroute evaluate ARGUMENTS` in `folder`, in this process."""
    import typer
    from typer.testing import CliRunner

    from promptroute.cli.evaluate import evaluate

    app = typer.Typer()
    app.command()(evaluate)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PROMPTROUTE_CEMS", str(folder / "cems"))
        ran = CliRunner().invoke(app, list(arguments))
    error = f"error: {ran.exception}\n" if isinstance(ran.exception, UserError) else ran.stderr
    return Ran(ran.exit_code, ran.stdout, error)


CHAIN: tuple[tuple[str, ...], ...] = (
    ("read", "cems_table"),
    ("sample",),
    ("describe",),
    ("split",),
    ("preflight",),
    *(("published", scorer, model) for scorer in SCORERS for model in STEMS),
    ("table",),
    ("agreement",),
    ("train",),
    ("calibrate",),
    ("evaluate",),
)
"""Every stage in the order of dvc.yaml; `encode` comes before `train`, once for each text encoder."""


def params(folder: Path, *overrides: str, cems: Path | None = None) -> None:
    """Compose a study's parameters; they name where the published table lies, `folder`/cems where None."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTROUTE_CEMS", str(folder / "cems" if cems is None else cems))
        compose(folder / "params.yaml", [*BASE, *overrides], Path(__file__).parents[2])


def copied(finished: Path, folder: Path) -> Path:
    """Copy a finished study, published table and all."""
    shutil.copytree(finished, folder)
    named = folder / "params.yaml"
    named.write_text(named.read_text().replace(str(finished), str(folder)))
    return folder


def run_chain(folder: Path, *overrides: str, rows: pd.DataFrame | None = None) -> dict[str, str]:
    """Make a study in an empty folder and run all of it; returns what each stage printed."""
    write_published(folder / "cems", table() if rows is None else rows)
    params(folder, *overrides)
    encoders = yaml.safe_load((folder / "params.yaml").read_text())["text_encoder"]
    printed = {}
    place = CHAIN.index(("preflight",)) + 1
    for stage in (*CHAIN[:place], *(("encode", name) for name in encoders), *CHAIN[place:]):
        ran = run(folder, *stage)
        if ran.status:
            pytest.fail(f"{' '.join(stage)}: {ran.err}")
        printed[" ".join(stage)] = ran.out
    return printed
