"""What a study's settings name is a dependency: change it in place, and what reads it runs again, nothing else."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Run, choose_study, git_clone, runner
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
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a made-up table beside it, in which `dvc exp run` has run once."""
    folder = tmp_path_factory.mktemp("published")
    git_clone(folder)
    write_published(folder.parent / "published-data", table(90))
    choose_study(folder, "published", data=folder.parent / "published-data")
    runner(folder, folder.parent / "published-data")("dvc", "exp", "run", *OVERRIDES)
    return folder


OVERRIDES = (
    "-S",
    "text_encoder=none",
    "-S",
    "predictor=ridge",
    "-S",
    "evaluate.resamples=10",
    "-S",
    "compute.threads=1",
)


def again(folder: Path, data: Path) -> set[str]:
    return ran(runner(folder, data)("dvc", "exp", "run", *OVERRIDES).stdout)


class TestInPlace:
    def test_nothing_changed(self, published: Path) -> None:
        assert again(published, published.parent / "published-data") == set()

    def test_table(self, published: Path) -> None:
        data = published.parent / "published-data"
        file = data / path_of("nima", "amused")
        rows = file.read_text().splitlines()
        cells = rows[1].split(",")
        file.write_text("\n".join([rows[0], ",".join([*cells[:-1], "5.5"]), *rows[2:]]) + "\n")
        stages = again(published, data)
        assert "published@nima-amused" in stages and {"table", "train", "evaluate"} <= stages
        assert not [
            stage for stage in stages if stage.startswith("published@") and stage != "published@nima-amused"
        ]
        assert not {"sample", "split", "read@cems_table"} & stages

    def test_another_folder(self, published: Path) -> None:
        other = published.parent / "other-data"
        shutil.copytree(published.parent / "published-data", other)
        assert "table" not in again(published, other)  # the same bytes elsewhere
        write_published(other, table(90, seed=1))
        stages = again(published, other)
        assert {"read@cems_table", "sample", "table", "train"} <= stages
        assert len([stage for stage in stages if stage.startswith("published@")]) == 8

    def test_own_prompts(self, published: Path) -> None:
        """A file that git doesn't track is found by an experiment in a temporary folder, and watched."""
        own = published / "own.csv"
        own.write_text("prompt\na red star\na blue circle\nthree green squares\n")
        run = runner(published, published.parent / "published-data")
        command = (
            "dvc", "exp", "run", "-S", "experiment=none", "-S", "prompts=file", "-S", "prompts.sources.file.path=own.csv",
            "-S", "models=none", "-S", "scorers=none", "-S", "image_encoder=none", "-S", "text_encoder=none", "sample",
        )  # fmt: skip
        first = run(*command, "--temp")
        assert {"read@file", "sample"} <= ran(first.stdout + first.stderr)
        run(*command)
        assert "3 prompts" in run("python", "-m", "stages.sample").stdout
        own.write_text("prompt\na red star\na blue circle\nthree green squares\na tiny dot\n")
        assert {"read@file", "sample"} <= ran(run(*command).stdout)
        assert "4 prompts" in run("python", "-m", "stages.sample").stdout
