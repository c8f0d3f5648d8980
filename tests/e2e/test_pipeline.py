"""The real commands, on the real table, in a fresh clone: what a newcomer and a researcher type."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.slow


def test_the_clone_reproduces_what_is_committed(clone: Path, run: Run) -> None:
    assert run("git", "status", "--porcelain").stdout == ""


def test_a_second_repro_runs_nothing(clone: Path, run: Run) -> None:
    again = run("dvc", "repro")
    assert "Data and pipelines are up to date." in again.stdout + again.stderr
    assert run("git", "status", "--porcelain").stdout == ""
