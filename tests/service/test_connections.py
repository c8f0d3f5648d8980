"""Many connections, slow ones, and what they leave in the log."""

import asyncio
import logging
import resource
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from promptroute.core.errors import UserError
from promptroute.service.connections import Calm, fit_connections
from promptroute.service.limits import Limits
from tests.service.conftest import Service, Start

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def serving(app: Any, main: Callable[[int], Coroutine[Any, Any, None]], limits: Limits) -> None:
    """Run `main` with the port of uvicorn around an ASGI application, with bounded connections."""
    import uvicorn

    from promptroute.service.connections import Bounded

    async def run() -> None:
        config = uvicorn.Config(
            app, http=partial(Bounded, limits=limits, quiet={}),  # type: ignore[arg-type]
            ws="none", lifespan="off", log_level="critical", timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            await server.startup(sockets=[listening])
            await main(listening.getsockname()[1])
            await server.shutdown(sockets=[listening])

    asyncio.run(run())


class TestFlood:
    def test_half_open(self, start: Start, router_folder: Path) -> None:
        """More half-open connections than the process may open files don't keep others out."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with ExitStack() as stack:
            resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))  # the service inherits it
            try:
                service = stack.enter_context(start(router_folder))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert service.ask("/healthz").json["limits"]["connections"] == 400 - 64 - 128
            for i in range(700):
                connection = stack.enter_context(connect(service))
                connection.sendall(HEAD[: i % len(HEAD)])
            for _ in range(5):
                assert service.route("a robot").status == 200
            service.process.terminate()
            service.process.wait(20)
            assert service.process.stderr and service.process.stderr.read() == ""

    def test_busy_stay(self, start: Start, router_folder: Path) -> None:
        """A kept connection that asks is answered while silent ones come and go."""
        with start(router_folder, "--max-connections", "8") as service, ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(connect(service))
                with connect(service) as asking:
                    asking.sendall(HEAD + b"\r\n")
                    assert asking.recv(100).split()[1] == b"200"

    def test_refused_when_full(self) -> None:
        """Where every connection has asked something, the next is told to come back."""

        async def stuck(scope: object, receive: object, send: object) -> None:
            await asyncio.sleep(60)

        async def main(port: int) -> None:
            asking = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for _, writer in asking:
                writer.write(HEAD + b"\r\n")
            await asyncio.sleep(0.2)
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in answer

        serving(stuck, main, Limits(connections=2, header_seconds=1))

    def test_slow_headers(self) -> None:
        """Headers that don't come whole end the connection, the first request's and a later one's."""

        async def hello(scope: object, receive: object, send: Any) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def main(port: int) -> None:
            first, one = await asyncio.open_connection("127.0.0.1", port)
            later, two = await asyncio.open_connection("127.0.0.1", port)
            one.write(HEAD)
            two.write(HEAD + b"\r\n")
            assert b"204" in await asyncio.wait_for(later.readuntil(b"\r\n\r\n"), 5)
            two.write(HEAD)
            assert await asyncio.wait_for(first.read(), 10) == b""
            assert await asyncio.wait_for(later.read(), 10) == b""

        serving(hello, main, Limits(header_seconds=1))


class TestFiles:
    def test_fit(self) -> None:
        assert fit_connections(512, files=1024) == 512
        assert fit_connections(2000, files=1024) == 832
        with pytest.raises(UserError, match="may open 100 files; expected 193 or more"):
            fit_connections(512, files=100)


class TestLog:
    @staticmethod
    def logger(name: str, seconds: float = 60.0) -> tuple[logging.Logger, list[str]]:
        lines: list[str] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append(self.format(record))

        logger = logging.getLogger(f"tests.calm.{name}")
        logger.propagate = False
        logger.addHandler(Keep())
        logger.addFilter(Calm(seconds))
        return logger, lines

    def test_first_whole(self) -> None:
        logger, lines = self.logger("first")
        for _ in range(100):
            try:
                raise ZeroDivisionError("ours")
            except ZeroDivisionError:
                logger.error("Exception in ASGI application", exc_info=sys.exc_info())
        assert len(lines) == 1 and "Traceback" in lines[0]

    def test_full_table(self) -> None:
        logger, lines = self.logger("table")
        for _ in range(100):
            logger.error(
                "socket.accept() out of system resource", exc_info=(OSError, OSError(24, "Too many"), None)
            )
        assert lines == ["socket.accept() out of system resource (OSError(24, 'Too many'))"]

    def test_counts(self) -> None:
        logger, lines = self.logger("counts", seconds=0.2)
        for _ in range(10):
            logger.warning("Invalid HTTP request received.")
        import time

        time.sleep(0.3)
        logger.warning("Invalid HTTP request received.")
        assert lines == [
            "Invalid HTTP request received.",
            "Invalid HTTP request received. (and 9 more like it)",
        ]
