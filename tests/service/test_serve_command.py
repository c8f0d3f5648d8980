"""`python -m promptroute.cli.serve`: what it refuses before it listens."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from promptroute.cli.serve import listen, parse, set_threads
from promptroute.core.errors import UserError
from promptroute.service.limits import Limits
from tests.service.conftest import ROOT


def serve(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "promptroute.cli.serve", *options], cwd=ROOT, capture_output=True, text=True, timeout=120
    )  # fmt: skip


def test_a_missing_router_is_one_clear_error(tmp_path: Path) -> None:
    ended = serve("--router", str(tmp_path / "none"))
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("error: ") and "no such router folder" in ended.stderr


def test_a_port_in_use_is_one_clear_error() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"can't listen on 127.0.0.1 port {port} \(Address already in use"
        ):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.1", 0), ("no.such.host.invalid", 0)]
)
def test_addresses_that_are_not_ours_are_refused(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"can't listen on .*; choose another --port"):
        listen(host, port)


def test_a_free_port_is_taken_and_listens() -> None:
    with listen("127.0.0.1", 0) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"prompts": 0}, "the limit prompts is 0; expected 1 or more"),
        ({"body": -5}, "the limit body is -5"),
        ({"prompts": 10, "waiting": 9}, "only 9 prompts may wait, but one request may bring 10"),
    ],
)
def test_limits_that_let_nothing_through_are_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Limits(**limits)  # type: ignore[arg-type]


def test_threads_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="--threads is 0"):
        set_threads(0)


def test_it_listens_on_this_machine_alone_unless_told() -> None:
    options = parse([])
    assert (options.host, options.port, str(options.router)) == ("127.0.0.1", 8000, "data/router")


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, promptroute.cli.serve, promptroute.service.limits; "
        "print([name for name in ('torch', 'transformers', 'fastapi', 'uvicorn', 'dvc', 'hydra') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "[]", ended.stderr
