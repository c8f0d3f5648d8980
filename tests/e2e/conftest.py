"""A clone of this project in an empty folder, in which the real DVC commands run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


def git_clone(folder: Path, without: tuple[str, ...] = ()) -> None:
    """Lay this checkout's files (tracked, or new and not ignored) in `folder`, committed.

    `without`: files whose path begins so are left out. Where another study than the default runs, `dvc.lock` is best:
    DVC writes the whole file again after each stage, which takes it longer than most of a small study's stages.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and not name.startswith(without) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (
        ["git", "init", "--quiet", "--initial-branch=main"],
        ["git", "config", "user.name", "test"],
        ["git", "config", "user.email", "test@localhost"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message=clone"],
    ):
        subprocess.run(command, cwd=folder, check=True)


def runner(folder: Path, cems_root: Path) -> Run:
    """Run a command in the clone with this environment's programs; a failure shows what it printed."""

    def run(*command: str, ok: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=1500,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PROMPTROUTE_CEMS": str(cems_root),
                **environment,
            },
        )  # fmt: skip
        if ok and done.returncode:
            pytest.fail(
                f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    return run


def choose_study(folder: Path, experiment: str, *overrides: str, data: Path | None = None) -> None:
    """Make another study the default one of a clone, as its owner would, and commit that.

    `data`: the folder of published data.
    """
    config = folder / "conf" / "config.yaml"
    before = config.read_text()
    config.write_text(re.sub(r"- experiment: \w+", f"- experiment: {experiment}", before))
    for command in (
        [sys.executable, "-m", "promptroute", "compose", *overrides],
        ["git", "commit", "--quiet", "--all", "--allow-empty", "--message=another default study"],
    ):
        environment = {**os.environ, **({"PROMPTROUTE_CEMS": str(data)} if data else {})}
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)


def published_study(folder: Path, data: Path) -> Run:
    """Make the published table a clone's default study; run `dvc repro` once, and commit that."""
    choose_study(
        folder, "published", "compute.threads=1", data=data
    )  # tests run side by side, see tests/conftest.py
    run = runner(folder, data)
    run("dvc", "repro")
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--allow-empty", "--message=published")
    return run
