"""The same bytes from a folder and from an address; what an address can answer instead."""

import hashlib
import socket
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.io.sources import Source

VARIABLE = "PROMPTROUTE_TEST_DATA"


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


def test_the_variable_wins_and_the_bytes_are_the_same(
    folder: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(serve(folder), VARIABLE)
    over_http = source.read("deep/a b.csv")
    assert over_http == (b"x" * 100_000, hashlib.sha256(b"x" * 100_000).hexdigest())
    assert source.has("deep/a b.csv") and not source.has("deep/other.csv")
    monkeypatch.setenv(VARIABLE, str(folder))
    assert source.root == str(folder)
    assert source.read("deep/a b.csv") == over_http
    assert source.has("deep/a b.csv") and not source.has("deep/other.csv")


def test_a_missing_file_is_named_with_what_lies_beside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(folder))
    source = Source("https://example.org/data", VARIABLE)
    with pytest.raises(UserError) as caught:
        source.read("deep/c.csv")
    assert str(caught.value) == (
        f"{folder}/deep/c.csv: no such file ({folder}/deep holds a b.csv); set {VARIABLE} to a folder that "
        "has it, or unset it to read https://example.org/data"
    )
    with pytest.raises(UserError, match=r"holds deep/\); set"):
        source.read("other/c.csv")


def test_a_missing_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/no/such/folder")
    with pytest.raises(
        UserError, match=f"^{VARIABLE}=/no/such/folder: no such folder; set it to a copy of h"
    ):
        Source("https://example.org/data", VARIABLE).read("a.csv")


def test_404_is_a_missing_file(folder: Path, serve: Callable[..., str]) -> None:
    address = serve(folder)
    with pytest.raises(UserError) as caught:
        Source(address, VARIABLE).read("deep/c.csv")
    assert str(caught.value) == (
        f"{address}/deep/c.csv: no such file; check the address and the network, or set {VARIABLE} to a "
        "folder that has it"
    )


def test_a_body_that_is_cut_off_is_refused(folder: Path, serve: Callable[..., str]) -> None:
    source = Source(serve(folder, _Refusing), VARIABLE)
    with pytest.raises(
        UserError, match=r"short\.csv: can't be read \(ClientPayloadError: .*; check the address"
    ):
        source.read("short.csv")


def test_a_server_that_fails_is_no_answer_to_whether_a_file_is_there(
    folder: Path, serve: Callable[..., str]
) -> None:
    source = Source(serve(folder, _Refusing), VARIABLE)
    with pytest.raises(UserError, match=r"a\.csv: can't be read \(ClientResponseError: 503"):
        source.has("a.csv")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = Source(f"http://127.0.0.1:{free.getsockname()[1]}", VARIABLE)
        with pytest.raises(
            UserError, match=r"can't be read \(ClientConnectorError: .*check the address and the net"
        ):
            nobody.has("a.csv")
        with pytest.raises(UserError, match=r"can't be read \(ClientConnectorError"):
            nobody.read("a.csv")


def test_a_proxy_is_used_where_the_environment_names_one(
    folder: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Proxy(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("http_proxy", serve(folder, Proxy))
    content, _ = Source("http://data.invalid/root", VARIABLE).read("a.csv")
    assert content == b"http://data.invalid/root/a.csv"
