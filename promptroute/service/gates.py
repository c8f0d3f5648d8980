"""What a request must pass before it is read: ASGI middleware for hosts, origins, and the size of bodies."""

import asyncio
import re
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptroute.core.errors import UserError
from promptroute.core.text import short
from promptroute.service.errors import ApiError
from promptroute.service.limits import Limits

LOCAL = ("127.0.0.1", "localhost")
EVERYWHERE = ("0.0.0.0", "::", "")
"""Addresses to listen on that stand for all of the machine's."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d*)?", re.ASCII)
# A body over the limit is still taken off the wire, up to so many times the limit: a client that is cut off
# while it sends sees a broken connection, not our answer.
_DRAIN = 16


class Hosts:
    """Refuse requests for other hosts, and posts from pages of other sites.

    A page of a stranger could else reach a service on the reader's own machine: by a name that it lets point
    there (DNS rebinding), or by posting across origins.

    Args:
        app: what is behind.
        hosts: names and addresses that requests may be for, without port; "*" is every host.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = LOCAL) -> None:
        self._app, self._hosts = app, frozenset(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            self._check(Headers(scope=scope), scope["method"])
        except ApiError as error:
            return await error.answer()(scope, receive, send)
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, method: str) -> None:
        host = headers.get("host", "")
        if "*" not in self._hosts and _name(host) not in self._hosts:
            raise ApiError(
                400, f"the host {ascii(host)[:80]} is not served here; start with --allow-host NAME"
            )
        if method in ("GET", "HEAD"):
            return
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ApiError(403, f"posts from the page {ascii(origin)[:80]} are refused; only own pages may")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ApiError(403, "posts from pages of other sites are refused; only own pages may")


class Bodies:
    """Take a request's body whole, within the limits of bytes and seconds, and refuse what is not JSON.

    Args:
        app: what is behind.
        limits: `body` and `seconds`.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        try:
            _check_type(Headers(scope=scope))
            async with asyncio.timeout(self._limits.seconds):
                first = await self._read(receive)
        except TimeoutError:
            error = ApiError(
                408,
                f"the body did not arrive within {self._limits.seconds:g} seconds",
                {"Connection": "close"},
            )
            return await error.answer()(scope, receive, send)
        except ApiError as error:
            return await error.answer()(scope, receive, send)

        messages = [first]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> Message:
        content, size, most = bytearray(), 0, self._limits.body
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            part = message.get("body", b"")
            size += len(part)
            if size <= most:
                content += part
            if not message.get("more_body") or size > _DRAIN * most:
                break
        if size > most:
            raise ApiError(
                413,
                f"the body is larger than {most} bytes; send fewer prompts a request",
                {"Connection": "close"},
            )
        return {"type": "http.request", "body": bytes(content), "more_body": False}


def allowed_hosts(names: Sequence[str], host: str) -> frozenset[str]:
    """Return the names that requests to a service may be for: this machine's, those that are given, and its address.

    Args:
        names: given by whoever starts it, without port; "*" is every host.
        host: the address that it listens on.

    Raises:
        UserError: a name is none.
    """
    for name in names:
        if name != "*" and (_name(name) != name.strip("[]").lower() or not name):
            raise UserError(
                f"--allow-host {short(name)} is no name of a host; give it without scheme and port, as example.org, or "
                f"'*' for every name"
            )
    return frozenset({*LOCAL, *names, *([] if host in EVERYWHERE else [host])})


def _name(host: str) -> str:
    """Give the name in a Host header, without its port and brackets; "" where it is invalid."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def _check_type(headers: Headers) -> None:
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"the Content-Type is {kind or 'missing'!r}; expected 'application/json'")
    if coding := headers.get("content-encoding"):
        raise ApiError(415, f"the Content-Encoding is {coding!r}; send the body as it is")
