"""How a stage starts and ends."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.core.text import one_line
from promptroute.io.files import atomic_path
from promptroute.runtime.stage import run_stage, stage_arguments
from tests.stages.small import run

ROOT = Path(__file__).parents[2]


class TestErrors:
    def test_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        def mistaken() -> str:
            raise UserError("model: can't be loaded (a report\n  of several\r\nlines \x1b[31m\x07); fetch it")

        with pytest.raises(SystemExit) as stop:
            run_stage(mistaken)
        assert stop.value.code == 1
        expected = "error: model: can't be loaded (a report of several lines \\x1b[31m\\x07); fetch it\n"
        assert capsys.readouterr().err == expected

    def test_ours_keeps_traceback(self) -> None:
        with pytest.raises(ZeroDivisionError):
            run_stage(lambda: str(1 / 0))

    def test_summary(self, capsys: pytest.CaptureFixture[str]) -> None:
        run_stage(lambda: "done")
        run_stage(lambda: None)
        assert capsys.readouterr().out == "done\n"

    def test_copy_of_the_project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """DVC runs queued experiments in a copy of what git tracks; what is missing there needs `git add`."""

        def lost() -> str:
            raise UserError("my.csv: no such file; check the name")

        (tmp_path / "copy").mkdir()
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        for folder, said in (
            (tmp_path, "check the name\n"),
            (tmp_path / "copy", "`git add` what it lacks)\n"),
        ):
            monkeypatch.chdir(folder)
            with pytest.raises(SystemExit):
                run_stage(lost)
            assert capsys.readouterr().err.endswith(said)

    def test_interrupt(self, capsys: pytest.CaptureFixture[str]) -> None:
        def interrupted() -> str:
            raise KeyboardInterrupt

        with pytest.raises(SystemExit) as stop:
            run_stage(interrupted)
        assert stop.value.code == 130 and capsys.readouterr().err == ""

    def test_signs(self) -> None:
        assert one_line("ünï → 🦊\u200b\u2028x") == "ünï → 🦊\\u200b x"


class TestMachine:
    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (errno.ENOSPC, "the disk is full; free some space"),
            (errno.EROFS, "the file system is read-only"),
            (errno.EACCES, "no permission; change its owner or mode"),
        ],
    )
    def test_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, said: str
    ) -> None:
        (tmp_path / "a.json").write_text("1")

        def full() -> str:
            with atomic_path(tmp_path / "a.json") as path:
                path.write_text("half")
                raise OSError(number, os.strerror(number))  # as `write` does: it names no file

        with pytest.raises(SystemExit) as stop:
            run_stage(full)
        err = capsys.readouterr().err
        assert stop.value.code == 1 and err.count("\n") == 1
        assert err.startswith(f"error: {tmp_path}/a.json: {said}")
        assert (tmp_path / "a.json").read_text() == "1" and len(list(tmp_path.iterdir())) == 1

    def test_others_are_ours(self) -> None:
        def broken() -> str:
            raise OSError(errno.EBADF, "bad")

        with pytest.raises(OSError):
            run_stage(broken)

    def test_file_limit(self, tmp_path: Path) -> None:
        code = (
            "import resource, pyarrow as pa\n"
            "from promptroute.io.parquet import write_parquet\n"
            "from promptroute.runtime.stage import run_stage\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            f"run_stage(lambda: write_parquet('{tmp_path}/x.parquet', pa.table({{'x': list(range(9999))}}), {{}}))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and not list(tmp_path.iterdir())
        assert done.stderr.startswith(
            f"error: {tmp_path}/x.parquet: the file is larger than files may be here"
        )
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("command", "status", "said"),
        [
            ("promptroute --help >&-", 0, ""),
            (
                "promptroute route <&-",
                1,
                "error: standard input: no prompt; give at least one line of text\n",
            ),
            ("stages.split --help <&- >&-", 0, ""),
        ],
    )
    def test_closed_streams(self, command: str, status: int, said: str) -> None:
        done = subprocess.run(
            f"{sys.executable} -m {command}",
            shell=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert (done.returncode, done.stderr) == (status, said)

    def test_full_output(self) -> None:
        code = "from promptroute.runtime.stage import run_stage; run_stage(lambda: 'x')"
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: the disk is full")


class TestArguments:
    def test_named(self) -> None:
        assert stage_arguments("Do it.", "ENCODER", "MODEL", arguments=["clip", "sd"]) == ["clip", "sd"]

    @pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--colour", "a"]])
    def test_wrong(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            stage_arguments("Do it.", "MODEL", arguments=arguments)
        assert stop.value.code == 2 and "usage: " in capsys.readouterr().err

    def test_passed_on(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["score", "nima"])
        run_stage(lambda scorer: f"score: {scorer}", "Score.", "SCORER")
        assert capsys.readouterr().out == "score: nima\n"

    @pytest.mark.parametrize("stage", ["sample", "split", "describe"])
    def test_stage_help(self, stage: str, tmp_path: Path) -> None:
        helped, surplus = run(tmp_path, stage, "--help"), run(tmp_path, stage, "surplus")
        assert helped.status == 0 and helped.out.startswith(f"usage: python -m stages.{stage}")
        assert surplus.status == 2 and "unrecognized arguments: surplus" in surplus.err
        assert list(tmp_path.iterdir()) == []


STAGE = "from promptroute.runtime.stage import run_stage\nimport time\n"


class TestPlainEnding:
    def start(self, code: str, **more: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-c", STAGE + code], cwd=ROOT, env={**os.environ, **more},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def test_ctrl_c(self) -> None:
        process = self.start("run_stage(lambda: print('here', flush=True) or time.sleep(60))")
        assert process.stdout and process.stdout.readline() == b"here\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (130, b"")

    def test_closed_pipe(self) -> None:
        process = self.start("run_stage(lambda: [print('x' * 1000) for _ in range(10000)] and 'done')")
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(20)) == (b"", 0)
        process.stderr.close()

    def test_ascii(self) -> None:
        process = self.start("run_stage(lambda: 'a → 🦊')", PYTHONIOENCODING="ascii")
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, b"a \\u2192 \\U0001f98a\n", b"")


def test_interrupted_import_leaves_no_traceback() -> None:
    code = "import stages; raise KeyboardInterrupt"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode in (-signal.SIGINT, 130) and ran.stderr == ""


def test_log_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("promptroute.runtime.cluster")

    def main() -> str:
        log.info("shard 3 by node-a (process 7)")
        return "done"

    run_stage(main)
    log.info("not within a stage")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("done\n", "shard 3 by node-a (process 7)\n")
