"""The same bytes from a folder and from an address; what an address can answer instead."""

import hashlib
import socket
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.io.sources import Source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a b.csv").write_bytes(b"x" * 100_000)
    return tmp_path


class _Refusing(SimpleHTTPRequestHandler):
    """A server with a bad day."""

    def do_GET(self) -> None:
        if "short" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a,b\n1,2\n")
            self.close_connection = True
        else:
            self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


def test_folder_wins(folder: Path, serve: Callable[..., str]) -> None:
    address = serve(folder)
    source = Source(address=address)
    over_http = source.read("deep/a b.csv")
    assert over_http == (b"x" * 100_000, hashlib.sha256(b"x" * 100_000).hexdigest())
    assert source.has("deep/a b.csv") and not source.has("deep/other.csv")
    source = Source(address=address, folder=str(folder))
    assert source.root == str(folder)
    assert source.read("deep/a b.csv") == over_http
    assert source.has("deep/a b.csv") and not source.has("deep/other.csv")


def test_missing_file(folder: Path) -> None:
    source = Source(address="https://example.org/data", folder=str(folder))
    with pytest.raises(UserError) as caught:
        source.read("deep/c.csv")
    assert str(caught.value) == (
        f"{folder}/deep/c.csv: no such file ({folder}/deep holds a b.csv); name a folder that has it, "
        "or none, to read https://example.org/data"
    )
    with pytest.raises(UserError, match=r"holds deep/\); name"):
        source.read("other/c.csv")


def test_missing_folder() -> None:
    with pytest.raises(
        UserError, match=r"^/no/such/folder: no such folder; name a copy of https://example.org/data, or none"
    ):
        Source(address="https://example.org/data", folder="/no/such/folder").read("a.csv")


def test_404(folder: Path, serve: Callable[..., str]) -> None:
    address = serve(folder)
    with pytest.raises(UserError) as caught:
        Source(address=address).read("deep/c.csv")
    assert str(caught.value) == (
        f"{address}/deep/c.csv: no such file; check the address and the network, or name a local "
        "folder that has it"
    )


def test_truncated_body(folder: Path, serve: Callable[..., str]) -> None:
    source = Source(address=serve(folder, _Refusing))
    with pytest.raises(
        UserError, match=r"short\.csv: can't be read \(ClientPayloadError: .*; check the address"
    ):
        source.read("short.csv")


def test_failing_server(folder: Path, serve: Callable[..., str]) -> None:
    source = Source(address=serve(folder, _Refusing))
    with pytest.raises(UserError, match=r"a\.csv: can't be read \(ClientResponseError: 503"):
        source.has("a.csv")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = Source(address=f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(
            UserError, match=r"can't be read \(ClientConnectorError: .*check the address and the net"
        ):
            nobody.has("a.csv")
        with pytest.raises(UserError, match=r"can't be read \(ClientConnectorError"):
            nobody.read("a.csv")


def test_proxy(folder: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("http_proxy", serve(folder, Proxy))
    content, _ = Source(address="http://data.invalid/root").read("a.csv")
    assert content == b"http://data.invalid/root/a.csv"
