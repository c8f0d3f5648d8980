"""`promptroute serve`: what it refuses before it listens, and how it ends."""

import inspect
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from promptroute.cli.serve import listen, serve
from promptroute.core.errors import UserError
from promptroute.runtime.device import set_threads
from promptroute.service.limits import Limits
from tests.service.conftest import ROOT, Start


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "promptroute", "serve", *options], cwd=ROOT, capture_output=True, text=True, timeout=120
    )  # fmt: skip


def test_missing_router(tmp_path: Path) -> None:
    ended = run("--router", str(tmp_path / "none"))
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("error: ") and "no such router folder" in ended.stderr


def test_port_in_use() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"can't listen on 127.0.0.1 port {port} \(Address already in use"
        ):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.1", 0), ("no.such.host.invalid", 0)]
)
def test_foreign_address(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"can't listen on .*; choose another --port"):
        listen(host, port)


def test_free_port() -> None:
    with listen("127.0.0.1", 0) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"prompts": 0}, "the limit prompts is 0; expected 1 or more"),
        ({"body": -5}, "the limit body is -5"),
        ({"request": 10}, "a request may bring 10 characters, but a prompt 2000"),
        ({"backlog": 10}, "only 10 characters may wait"),
        ({"prompts": 10, "waiting": 9}, "only 9 prompts may wait, but a request may bring 10"),
    ],
)
def test_bad_limits(limits: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Limits(**limits)  # type: ignore[arg-type]


def test_bad_threads() -> None:
    with pytest.raises(UserError, match="--threads is 0"):
        set_threads(0)


def test_local_by_default() -> None:
    defaults = {name: one.default for name, one in inspect.signature(serve).parameters.items()}
    assert (defaults["host"], defaults["port"], str(defaults["router"])) == ("127.0.0.1", 8000, "data/router")


def test_no_delay() -> None:
    """Two packets with Nagle's algorithm on, and a kept-alive request takes 40 ms instead of about two."""
    with listen("127.0.0.1", 0) as server, socket.create_connection(server.getsockname(), timeout=5):
        accepted, _ = server.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals(start: Start, router_folder: Path, number: int, status: int) -> None:
    with start(router_folder) as service:
        service.process.send_signal(number)
        assert service.process.wait(20) == status
        assert service.process.stderr and service.process.stderr.read() == ""


def test_light_import() -> None:
    code = (
        "import sys, promptroute.cli.main, promptroute.service.limits; "
        "print([name for name in ('torch', 'transformers', 'fastapi', 'uvicorn', 'dvc', 'hydra', 'pandas', 'pyarrow', 'scipy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "[]", ended.stderr
