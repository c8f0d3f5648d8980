"""`promptroute route --search`, as a person at a terminal and as a program at a pipe."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from promptroute.cli.main import main

ROOT = Path(__file__).parents[2]
ASKED = (
    "standard input: no score of Middle's image; give nima a line, or an empty line where the image failed"
)


def started(folder: Path, *arguments: str, stdin: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "promptroute", "route", "--search", "-r", str(folder), *arguments],
        cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


Walk = Callable[..., tuple[int, str, str]]


@pytest.fixture
def walked(search_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Walk:
    """(scores, arguments…, folder=…) → status, output and errors of the command, in this process."""

    def walking(scores: bytes, *arguments: str, folder: Path = search_folder) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(scores)))
        try:
            main(["route", "--search", "-r", str(folder), *arguments])
        except SystemExit as end:
            return int(end.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    return walking


class TestPipe:
    def test_plain(self, walked: Walk) -> None:
        status, out, err = walked(b"5.0\n5.2\n", "a logo")
        assert (status, err) == (0, "")
        lines = out.splitlines()
        assert lines[0] == "'a logo'" and lines[2] == "  → generate with Cheap ($0.00011 with its score)"
        assert lines[3].startswith("  Cheap's image scores 5; Middle's reservation value is ")
        assert lines[-1] == "  → deliver Middle's image; spent $0.00052"

    def test_json_and_failure(self, walked: Walk) -> None:
        status, out, err = walked(b"\n9\n", "a logo", "--json", "--model", "cheap", "-m", "middle")
        assert (status, err) == (0, "")
        steps = [json.loads(line) for line in out.splitlines()]
        assert [step["model"] for step in steps] == ["cheap", "middle", None]
        assert steps[-1]["keep"] == "middle" and {step["prompt"] for step in steps} == {"a logo"}

    def test_file_of_prompts(self, walked: Walk, tmp_path: Path) -> None:
        (tmp_path / "prompts.txt").write_text("a logo\na robot\n")
        status, out, _ = walked(b"9\n9\n", "--file", str(tmp_path / "prompts.txt"))
        assert status == 0 and out.count("deliver ") == 2

    @pytest.mark.parametrize(
        ("scores", "arguments", "message"),
        [
            (b"5.0\n", ["a logo"], ASKED),
            (b"5,1\n", ["a logo"], "standard input: '5,1' is not nima of an image; expected 1 number a line"),
            (b"nan\n", ["a logo"], "'nan' is not nima of an image"),
            (b"1 2\n", ["a logo"], "'1 2' is not nima of an image"),
            (b"\xff\xfe\x1b[31m\n", ["a logo"], "is not nima of an image"),
            (b"9" * 90 + b"\n", ["a logo"], "expected a finite number, or null where the image failed"),
            (b"a logo\n", [], "--search reads scores from standard input; give the prompt as an argument or with --file"),
            (b"", ["a logo", "--slack", "1"], "--search decides at the router's own operating point; leave --tradeoff"),
            (b"", ["a logo", "--model", "dall-e"], "model 'dall-e' is unknown"),
            (b" " * 8192 + b"5\n", ["a logo"], "standard input: a line of 8192 bytes or more; expected 1 number"),
            (b"", [" "], "prompt 1 of 1 (' ') is empty"),
        ],
    )  # fmt: skip
    def test_refused(self, walked: Walk, scores: bytes, arguments: list[str], message: str) -> None:
        status, _, err = walked(scores, *arguments)
        assert status == 1 and err.startswith("error: ") and message in err
        assert err.count("\n") == 1 and "\x1b" not in err

    def test_policy_that_cannot_look(self, walked: Walk, router_folder: Path) -> None:
        status, out, err = walked(b"5\n", "a logo", folder=router_folder)
        assert status == 1 and "decides before it sees an image" in err and "generate" not in out

    def test_interrupted(self, search_folder: Path) -> None:
        process = started(search_folder, "a logo")
        assert process.stdout and process.stdin and process.stderr
        while b"generate with" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and process.stderr.read() == b""
        for end in (process.stdin, process.stdout, process.stderr):
            end.close()


def test_terminal(search_folder: Path) -> None:
    """A slip is asked again; the questions go to the terminal, the answers alone to the output."""
    ours, theirs = pty.openpty()
    process = started(search_folder, "a logo", stdin=theirs)
    os.write(ours, b"five\n5.0\n\n6.5\n")
    out, err = process.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0 and "deliver Expensive & Fine's image" in out.decode()
    assert err.decode().count("nima of Cheap's image (nothing: it failed): ") == 2
    assert "'five' is not nima of an image" in err.decode() and "nima of" not in out.decode()
