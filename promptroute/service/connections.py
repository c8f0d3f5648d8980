"""How many connections there may be and how long they may say nothing; logs that no stranger can fill."""

import asyncio
import logging
import socket
import time
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from promptroute.core.errors import UserError
from promptroute.service.limits import Limits

BACKLOG = 64
"""Connections that are accepted at once, before any of them is counted."""
_RESERVED = 128  # files of ours: weights, logs, sockets
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Bounded(H11Protocol):
    """uvicorn's connection, with a limit on how many there are and on the time until a request's headers.

    Where there are too many, the oldest that hasn't sent a whole request makes room; where all have, the new
    connection is answered with 503.

    Args:
        limits: `connections` and `header_seconds`.
        quiet: connections without a whole request, the oldest first; shared by all.
        given: uvicorn's own.
    """

    def __init__(self, *, limits: Limits, quiet: "dict[Bounded, None]", **given: Any) -> None:
        super().__init__(**given)
        self._limits, self._quiet = limits, quiet
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and start to wait for headers."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            if not self._quiet:
                transport.write(_FULL)
                transport.close()
                return
            oldest = next(iter(self._quiet))
            oldest._leave()
            self.connections.discard(oldest)
            oldest.transport.abort()
        self._quiet[self] = None
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; while that is no whole request, the connection may have to make room."""
        super().data_received(data)
        asked = self.cycle is not None and not self.cycle.response_complete
        if asked and not self.cycle.more_body:
            self._leave()
        elif asked:
            self._stop()  # the body has a limit of its own
        elif self._timer is None and not self.transport.is_closing():
            self._wait()  # the next request of a kept connection begins

    def on_response_complete(self) -> None:
        """Let the connection make room again, as it waits for its next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._quiet.setdefault(self, None)

    def _wait(self) -> None:
        self._stop()
        self._timer = self.loop.call_later(self._limits.header_seconds, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        self._stop()
        self._quiet.pop(self, None)

    def _expire(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Calm(logging.Filter):
    """Log each kind of fault whole once, and then a line of it once a minute: nobody can fill the log."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds, self._last = seconds, dict[object, tuple[float, int]]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether a record is logged, and take the traceback off a repeated one."""
        if record.levelno < logging.WARNING:
            return True
        kind = record.exc_info[0] if record.exc_info else None
        full = isinstance(record.exc_info[1] if record.exc_info else None, OSError)
        key, now = (str(record.msg)[:80], kind), time.monotonic()
        last, missed = self._last.get(key, (None, 0))
        if last is not None and now - last < self._seconds:
            self._last[key] = (last, missed + 1)
            return False
        # An OSError, as a full table, is no fault of the code.
        if record.exc_info and (last is not None or full):
            record.msg = f"{record.getMessage()} ({record.exc_info[1]!r})".partition("\n")[0]
            record.args, record.exc_info, record.exc_text = None, None, None
        if missed:
            record.msg = f"{record.msg} (and {missed} more like it)"
        self._last[key] = (now, 0)
        return True


def fit_connections(wanted: int, files: int | None = None) -> int:
    """Give the number of connections that the process's limit of open files leaves, at most `wanted`.

    Raises:
        UserError: the limit leaves none.
    """
    if files is None:
        try:
            import resource
        except ImportError:  # Windows has no such limit
            return wanted
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files == resource.RLIM_INFINITY:
            return wanted
    room = files - BACKLOG - _RESERVED
    if room < 1:
        raise UserError(f"this process may open {files} files; expected {BACKLOG + _RESERVED + 1} or more")
    return min(wanted, room)


class Server(uvicorn.Server):
    """uvicorn's server, which prints a line once it listens and Ctrl-C ends it in order.

    Args:
        config: what `server_config` gives.
        line: the line.
    """

    def __init__(self, config: uvicorn.Config, line: str) -> None:
        super().__init__(config)
        self._line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so."""
        await super().startup(sockets)
        print(self._line, flush=True)


def server_config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Give uvicorn's settings."""
    config = uvicorn.Config(
        app,
        http=partial(Bounded, limits=limits, quiet={}),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",  # prompts may be private: what is asked is counted, not logged
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
    )
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Calm())
    return config
