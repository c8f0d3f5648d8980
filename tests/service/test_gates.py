"""Who may ask: hosts, origins, and the time and size of a body."""

import json
import socket
import time
from pathlib import Path

import pytest

from promptroute.core.errors import UserError
from promptroute.service.app import create_app
from promptroute.service.gates import LOCAL, allowed_hosts
from tests.service.conftest import Service, Start

GOOD = json.dumps({"prompts": ["a robot"]}).encode()


class TestHosts:
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "127.0.0.1:8000"])
    def test_own(self, service: Service, host: str) -> None:
        assert service.ask("/route", GOOD, Host=host).status == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost:x",
                 "[::1", "", "192.0.2.1", "evil.example#localhost"],
    )  # fmt: skip
    @pytest.mark.parametrize("path", ["/", "/route", "/healthz", "/metrics"])
    def test_foreign(self, service: Service, host: str, path: str) -> None:
        answer = service.ask(path, GOOD if path == "/route" else None, Host=host)
        assert answer.status == 400 and "is not served here; start with --allow-host" in answer.json["error"]

    def test_no_host(self, service: Service) -> None:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert connection.recv(100).split()[1] == b"400"

    def test_allowed(self, start: Start, router_folder: Path) -> None:
        with start(router_folder, "--allow-host", "router.example", "--allow-host", "[::1]") as service:
            for host in ("router.example", "Router.Example:80", "[::1]:8000", "localhost"):
                assert service.ask("/healthz", Host=host).status == 200
            assert service.ask("/healthz", Host="other.example").status == 400

    def test_every(self, start: Start, router_folder: Path) -> None:
        with start(router_folder, "--allow-host", "*") as service:
            assert service.ask("/healthz", Host="any.example").status == 200


class TestGivenNames:
    def test_joined(self) -> None:
        assert allowed_hosts(["Example.org", "[::1]"], "0.0.0.0") == {*LOCAL, "Example.org", "[::1]"}
        assert allowed_hosts([], "192.0.2.7") == {*LOCAL, "192.0.2.7"}
        assert "*" in allowed_hosts(["*"], "")

    @pytest.mark.parametrize(
        "name", ["", " ", "a b", "http://example.org", "example.org:80", "a/b", "*.org", "é"]
    )
    def test_no_name(self, name: str) -> None:
        """An empty one would let in every request whose Host can't be read."""
        with pytest.raises(UserError, match="is no name of a host"):
            allowed_hosts([name], "")


class TestOrigins:
    def test_own(self, service: Service) -> None:
        headers = {"Origin": service.address, "Sec_Fetch_Site": "same-origin"}
        assert service.ask("/route", GOOD, **headers).status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1"},  # another port is another origin
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
    )
    def test_foreign(self, service: Service, headers: dict[str, str]) -> None:
        answer = service.ask("/route", GOOD, **headers)
        assert answer.status == 403 and "only own pages may" in answer.json["error"]
        assert service.ask("/healthz", **headers).status == 200, "a page elsewhere may link to it"


def test_slow_body(router_folder: Path) -> None:
    """A body that doesn't come is given up, and the caller is told."""
    import asyncio

    from promptroute.router.router import Router
    from promptroute.service.limits import Limits

    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/route", "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }  # fmt: skip
    app = create_app(Router.load(router_folder), Limits(seconds=1))
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408 and b"did not arrive within 1 seconds" in sent[1]["body"]  # type: ignore[operator]


def test_client_gone(start: Start, router_folder: Path) -> None:
    """What a client that left had asked doesn't keep the others waiting."""
    body = json.dumps({"prompts": ["word " * 51] * 250}).encode()
    with start(router_folder) as service:
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
                connection.sendall(
                    b"POST /route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body
                )
        assert service.route("a robot").status == 200
        end = time.monotonic() + 20
        while b"promptroute_waiting_prompts 0.0" not in service.ask("/metrics").body:
            assert time.monotonic() < end
            time.sleep(0.05)
