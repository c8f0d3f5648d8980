"""What a study's settings name is a dependency: change it in place, and what reads it runs again, nothing else."""

import io
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from tests.e2e.conftest import Run, git_clone, published_study, runner
from tests.e2e.test_pipeline import ran
from tests.stages.small import path_of, table, write_published

pytestmark = pytest.mark.slow

CODE = {
    "promptroute/prompts/sampling.py": {"read@mini", "sample"},
    "promptroute/prompts/statistics.py": {"read@mini", "describe"},
    "promptroute/prompts/split.py": {"read@mini", "split"},
    "promptroute/io/delimited.py": {"read@mini"},
    "promptroute/encoders/sentence.py": {"encode@minilm_layers", "embed@clip", "calibrate"},
    "promptroute/encoders/open_clip.py": {"embed@clip", "calibrate"},
    "promptroute/scorers/nima.py": {"score@nima", "report"},
    "promptroute/scorers/clip_score.py": {"score@clip", "report"},
    "promptroute/scorers/consistency.py": {"score@consistency", "report"},
    "promptroute/scorers/base.py": {"score@nima", "score@clip", "score@consistency", "score@rahf", "report"},
    "promptroute/generators/run.py": {
        f"generate@mini-{name}" for name in ("unet", "masked", "tiny", "student")
    },
    "promptroute/feedback/scorer.py": {"score@rahf", "report"},
    "promptroute/core/performance.py": {"table"},
    "promptroute/evaluation/comparison.py": {"compare", "evaluate"},
    "promptroute/evaluation/strength.py": {"agreement", "evaluate"},
    "promptroute/predictors/kernel.py": {"train", "calibrate", "evaluate"},
    "promptroute/routing/quality.py": {"train", "calibrate", "evaluate"},
    "promptroute/routing/frontier.py": {"calibrate", "evaluate"},
    "promptroute/router/router.py": {"calibrate", "evaluate"},
    "promptroute/evaluation/bootstrap.py": {"evaluate"},
    "promptroute/report/page.py": {"report"},
    "promptroute/service/app.py": set(),
    "promptroute/cli/route.py": set(),
    "mini/captions.py": set(),
    "stages/sample.py": {"sample"},
}
"""A file of each room → the stages whose result its code decides."""
INPUTS = {
    "mini/prompts/tags.csv": {"read@mini"},
    "mini/weights/student/config.json": {"generate@mini-student"},
    "mini/weights/tiny/config.json": {"generate@mini-tiny"},
    "mini/weights/masked/model_index.json": {"generate@mini-masked"},
    "mini/weights/feedback/config.json": {"score@rahf"},
    "mini/weights/clip/open_clip_config.json": {"embed@clip"},
}
"""A file that the default study's settings name → the stages that read it."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which nothing has run: dvc.lock says what everything was made from."""
    folder = tmp_path_factory.mktemp("inputs")
    git_clone(folder)
    return folder


def modified(run: Run) -> dict[str, set[str]]:
    """Give each stage with the code and inputs that differ from what dvc.lock recorded; nothing has run here."""
    found: dict[str, set[str]] = {}
    for stage, changes in json.loads(run("dvc", "status", "--json").stdout).items():
        for change in changes:
            if isinstance(change, dict):
                deps = change.get("changed deps", {})
                found.setdefault(stage, set()).update(
                    name for name, how in deps.items() if how == "modified" and not name.startswith("data/")
                )
    return {stage: names for stage, names in found.items() if names}


class TestDependencies:
    def test_lock_is_current(self, clone: Path) -> None:
        assert modified(runner(clone, clone)) == {}

    def test_lines_and_files(self, clone: Path) -> None:
        """One status for all: each stage names which file changed, so files can be changed together."""
        expected: dict[str, set[str]] = {}
        for path, stages in (*CODE.items(), *INPUTS.items()):
            with (clone / path).open("a") as file:
                file.write("\n")
            for stage in stages:
                expected.setdefault(stage, set()).add(path)
        try:
            found = modified(runner(clone, clone))
        finally:
            runner(clone, clone)("git", "checkout", "--quiet", "--force", "main")
        assert set(found) == set(expected)
        for stage, names in found.items():
            # A dependency may be a folder that holds the file.
            for path in expected[stage]:
                assert any(path == name or path.startswith(f"{name}/") for name in names), (
                    stage,
                    path,
                    names,
                )

    def test_stages_of_a_recovery(self, clone: Path) -> None:
        """They are there where a study names a recovery, and only then."""
        run = runner(clone, clone)

        def listed() -> set[str]:
            names = run("dvc", "stage", "list", "--name-only").stdout.split()
            return {name for name in names if name.startswith(("recover", "trip"))}

        assert listed() == set()
        run(sys.executable, "-m", "promptroute", "compose", "recovery=mini")
        try:
            trips = {f"trip@mini-{name}" for name in ("unet", "masked", "tiny", "student")}
            assert listed() == {"recover@prompts"} | trips
            (recover,) = [
                where
                for where in run("dvc", "dag", "--dot", "recover@prompts").stdout.splitlines()
                if "embed@words" in where and "recover" in where
            ]
            assert "->" in recover
        finally:
            run("git", "checkout", "--quiet", "--force", "main")


@pytest.fixture(scope="module")
def finished_clone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clone whose default study reads a small made-up table, in which `dvc repro` has run once; and that table's folder."""
    folder, data = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("published-data")
    git_clone(folder, without=("dvc.lock", "mini/weights/"))
    write_published(data, table(90))
    option = folder / "conf" / "experiment" / "published.yaml"
    option.write_text(
        f"{option.read_text().rstrip()}\n  - override /text_encoder: none\n  - override /predictor: ridge\n"
        "evaluate: {resamples: 10}\ncompute: {threads: 1}\n"
    )
    published_study(folder, data)
    return folder, data


class Study(NamedTuple):
    """A copy of the finished clone, which a test may change, and the folder of its data."""

    folder: Path
    data: Path

    def go(self, *command: str) -> str:
        """Run a command in it; returns what that printed."""
        done = runner(self.folder, self.data)(*command)
        return done.stdout + done.stderr

    def experiment(self, *overrides: str, to: str = "report") -> set[str]:
        """Run an experiment up to a stage; returns the stages that ran."""
        return ran(self.go("dvc", "exp", "run", *(part for one in overrides for part in ("-S", one)), to))

    def evaluated(self) -> dict[str, Any]:
        found = json.loads((self.folder / "metrics" / "evaluate.json").read_text())
        assert isinstance(found, dict)
        return found


@pytest.fixture
def study(finished_clone: tuple[Path, Path], tmp_path: Path) -> Study:
    folder, data = finished_clone
    return Study(shutil.copytree(folder, tmp_path / "study", symlinks=True), data)


class TestSwitch:
    """Another option of a group: what reads it runs, nothing else."""

    def test_score(self, study: Study) -> None:
        nima = study.evaluated()["strategies"]["single_sdxl-turbo"]["quality"]
        output = study.go("dvc", "exp", "run", "-S", "score=clip", "-n", "clip")
        assert ran(output) == {"preflight", "train", "calibrate", "evaluate", "report"}
        found = study.evaluated()
        single = found["strategies"]["single_sdxl-turbo"]
        assert found["score"] == "clip.score" and single["quality"] == single["clip.score"] != nima

        # HEAD is the committed default study.
        study.go("git", "checkout", "--quiet", "--force", "main")
        shown = runner(study.folder, study.data)("dvc", "exp", "show", "--csv").stdout
        assert "clip" in set(pd.read_csv(io.StringIO(shown))["Experiment"].dropna())
        study.go("dvc", "exp", "apply", "clip")
        changes = json.loads(
            runner(study.folder, study.data)("dvc", "metrics", "diff", "HEAD", "--json").stdout
        )
        # Neither router gains anything on so few prompts; what the frontier says differs with the score.
        assert {"study", "frontier_oracle_gap_closed", "frontier_area"} <= set(
            changes["metrics/summary.json"]
        )
        assert set(changes) <= {"metrics/summary.json", "metrics/sources.json"}
        page = study.go("dvc", "plots", "diff", "HEAD", "--out", "plots_page")
        assert (study.folder / "plots_page" / "index.html").exists(), page
        study.go("git", "checkout", "--quiet", "--force", "main")
        study.go("git", "clean", "--quiet", "--force", "-d")
        study.go("dvc", "checkout")
        assert study.go("git", "status", "--porcelain") == ""

    def test_cost_rule(self, study: Study) -> None:
        stages = study.experiment("cost=measured", to="evaluate")
        assert "train" not in stages and {"calibrate", "evaluate"} <= stages

    def test_predictor(self, study: Study) -> None:
        first = study.experiment("predictor=knn", "text_encoder=minilm", to="train")
        assert {"encode@minilm", "train"} <= first
        second = study.experiment("predictor=ridge", "text_encoder=minilm", to="train")
        assert not [stage for stage in second if stage.startswith("encode")] and "train" in second

    def test_queued_sweep(self, study: Study) -> None:
        study.go(
            "dvc", "exp", "run", "--queue", "-S", "predictor=ridge", "-S", "+predictor.folds=3,4", "evaluate"
        )
        study.go("dvc", "queue", "start", "--jobs", "1")
        for _ in range(300):
            status = study.go("dvc", "queue", "status")
            if not re.search(r"Queued|Running", status):
                break
            time.sleep(2)
        assert len(re.findall(r"Success", status)) == 2, status
        shown = runner(study.folder, study.data)("dvc", "exp", "show", "--csv").stdout
        folds = pd.read_csv(io.StringIO(shown))["predictor.folds"]
        assert {3, 4} <= set(folds.dropna().astype(float))


class TestInPlace:
    """The same settings, other content."""

    def test_nothing_changed(self, study: Study) -> None:
        assert ran(study.go("dvc", "exp", "run")) == set()

    def test_table(self, study: Study) -> None:
        file = study.data / path_of("nima", "amused")
        before = file.read_text()
        rows = before.splitlines()
        cells = rows[1].split(",")
        file.write_text("\n".join([rows[0], ",".join([*cells[:-1], "5.5"]), *rows[2:]]) + "\n")
        try:
            stages = study.experiment(to="evaluate")
        finally:
            file.write_text(before)
        assert "published@nima-amused" in stages and {"table", "train", "evaluate"} <= stages
        assert not [
            stage for stage in stages if stage.startswith("published@") and stage != "published@nima-amused"
        ]
        assert not {"sample", "split", "read@cems_table"} & stages

    def test_another_folder(self, study: Study, tmp_path: Path) -> None:
        elsewhere = study._replace(data=shutil.copytree(study.data, tmp_path / "other-data"))
        assert "table" not in elsewhere.experiment()  # the same bytes elsewhere
        write_published(elsewhere.data, table(90, seed=1))
        stages = elsewhere.experiment(to="table")
        assert {"read@cems_table", "sample", "table"} <= stages
        assert len([stage for stage in stages if stage.startswith("published@")]) == 8

    def test_own_prompts(self, study: Study) -> None:
        """A file that git doesn't track is found by an experiment in a temporary folder, and watched."""
        own = study.folder / "own.csv"
        own.write_text("prompt\na red star\na blue circle\nthree green squares\n")
        command = (
            "dvc", "exp", "run", "-S", "experiment=none", "-S", "prompts=file", "-S", "prompts.sources.file.path=own.csv",
            "-S", "models=none", "-S", "scorers=none", "-S", "image_encoder=none", "-S", "text_encoder=none", "sample",
        )  # fmt: skip
        stored = study.folder / "data" / "prompts.parquet"
        assert {"read@file", "sample"} <= ran(study.go(*command, "--temp"))
        study.go(*command)
        assert len(pd.read_parquet(stored)) == 3
        own.write_text("prompt\na red star\na blue circle\nthree green squares\na tiny dot\n")
        assert {"read@file", "sample"} <= ran(study.go(*command))
        assert len(pd.read_parquet(stored)) == 4
