"""The command `promptroute` as people and programs meet it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptroute.cli.main import main

ROOT = Path(__file__).parents[2]
COMMANDS = ("route", "serve", "evaluate", "compose")


def start(*arguments: str, cwd: Path = ROOT, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "promptroute", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


class TestHelp:
    def test_commands(self) -> None:
        status, out, err = run("--help")
        assert (status, err) == (0, "")
        assert all(f"  {command} " in out for command in COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_command(self, command: str, tmp_path: Path) -> None:
        status, out, _ = run(command, "--help", cwd=tmp_path)
        assert status == 0 and f"Usage: promptroute {command}" in out
        assert out.isascii() and "\x1b" not in out and len(out.splitlines()) < 50
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ["route", "--colour"],
            ["serve", "--port", "many"],
            ["nowhere"],
            ["serve", "surplus"],
            ["route", "--slack"],
        ],
    )
    def test_wrong_usage(self, arguments: list[str]) -> None:
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and "Error: " in err and "Traceback" not in err


class TestRoute:
    def test_plain(self, router_folder: Path) -> None:
        status, out, err = run("route", "--router", str(router_folder), "a robot at night")
        assert (status, err) == (0, "")
        first, second, third = out.splitlines()
        assert first == "'a robot at night'" and second.startswith("  → Middle, $0.0004 an image: ")
        assert third.startswith("    predicted quality: Middle ")

    def test_own_operating_point(self, router_folder: Path) -> None:
        def chosen(*options: str) -> str:
            out = run("route", "-r", str(router_folder), "--json", "a portrait", *options)[1]
            return str(json.loads(out)["model"])

        assert chosen("--slack", "5") == "cheap"
        assert chosen("--tradeoff", "0") == "expensive"
        assert chosen("--model", "middle", "--model", "cheap", "--slack", "5") == "cheap"
        assert chosen("--model", "middle") == "middle"

    def test_refused(self, router_folder: Path) -> None:
        status, out, err = run("route", "-r", str(router_folder), "--model", "\x1b[31mnone", "a robot")
        assert (status, out) == (1, "") and err.startswith("error: model '") and "\x1b" not in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_ascii(self, router_folder: Path, options: list[str]) -> None:
        status, out, err = run(
            "route", "-r", str(router_folder), "🦊 ünï", *options, PYTHONIOENCODING="ascii"
        )
        assert (status, err) == (0, "") and out.isascii()
        if options:
            assert json.loads(out)["prompt"] == "🦊 ünï"

    def test_ascii_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not every way of printing keeps to the terminal's encoding."""
        found = json.loads((ROOT / "metrics" / "evaluate.json").read_text(encoding="utf-8"))
        file = tmp_path / "found.json"
        file.write_text(json.dumps({**found, "about": "ünï"}), encoding="utf-8")
        out = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding="ascii"))
        with pytest.raises(SystemExit, match="0"):
            main(["evaluate", "--show", str(file)])
        sys.stdout.flush()
        assert out.getvalue().isascii() and rb"\xfcn\xef" in out.getvalue()

    @pytest.mark.parametrize(
        "content", ["null", "[]", "{}", '{"labels": 7}', '{"frontier": null, "labels": {}, "router": {}}']
    )
    def test_no_result(self, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(SystemExit, match="1"):
            main(["evaluate", "--show", str(tmp_path / "other.json")])
        assert "other.json: no result of evaluate (" in capsys.readouterr().err

    def test_closed_pipe(self, router_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "prompts.txt").write_text("a robot at night\n" * 4000)
        process = start("route", "-r", str(router_folder), "--file", str(tmp_path / "prompts.txt"))
        assert process.stdin and process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) in (0, 1)
        process.stdin.close()
        process.stderr.close()


class TestCompose:
    def test_here(self, tmp_path: Path) -> None:
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "config.yaml").write_text("seed: 0\n")
        status, out, err = run("compose", "seed=7", cwd=tmp_path)
        assert (status, out, err) == (0, "params.yaml: composed from conf/ with seed=7\n", "")
        assert (tmp_path / "params.yaml").read_text() == "seed: 7\n"

    def test_no_project(self, tmp_path: Path) -> None:
        status, _, err = run("compose", cwd=tmp_path)
        assert status == 1 and "no conf/config.yaml here; compose in the folder of a project" in err

    def test_options_listed(self, tmp_path: Path) -> None:
        (tmp_path / "conf" / "policy").mkdir(parents=True)
        (tmp_path / "conf" / "config.yaml").write_text("defaults: [policy: cheap]\n")
        for name in ("cheap", "best"):
            (tmp_path / "conf" / "policy" / f"{name}.yaml").write_text("a: 1\n")
        status, out, err = run("compose", "policy=nope", cwd=tmp_path)
        assert (status, out) == (1, "") and "best" in err and "cheap" in err and err.count("\n") == 1
        assert not (tmp_path / "params.yaml").exists()
