"""How a stage starts and ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.runtime.stage import one_line, run_stage, stage_arguments

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

    def test_interrupt(self, capsys: pytest.CaptureFixture[str]) -> None:
        def interrupted() -> str:
            raise KeyboardInterrupt

        with pytest.raises(SystemExit) as stop:
            run_stage(interrupted)
        assert stop.value.code == 130 and capsys.readouterr().err == ""

    def test_signs(self) -> None:
        assert one_line("ünï → 🦊\u200b\u2028x") == "ünï → 🦊\\u200b x"


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
        def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                [sys.executable, "-m", f"stages.{stage}", *arguments],
                cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            )  # fmt: skip

        helped, surplus = run("--help"), run("surplus")
        assert helped.returncode == 0 and helped.stdout.startswith(f"usage: python -m stages.{stage}")
        assert surplus.returncode == 2 and "unrecognized arguments: surplus" in surplus.stderr
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
