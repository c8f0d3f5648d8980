"""`promptroute serve`: the trained router over HTTP, with a page to try prompts on.

curl -H 'Content-Type: application/json' -d '{"prompts": ["a red car"]}' http://127.0.0.1:8000/route
"""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptroute.cli.extras import needs_extra
from promptroute.cli.route import ALLOW
from promptroute.core.errors import UserError
from promptroute.service.limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

GIVEN = Limits()

ROUTER = typer.Option("--router", "-r", metavar="DIR", help="router folder")
HOST = typer.Option("--host", help="address to listen on; 0.0.0.0 is every network")
PORT = typer.Option("--port", "-p", help="port to listen on; 0 takes a free port")
ALLOW_HOST = typer.Option(
    "--allow-host",
    metavar="NAME",
    help="another name that requests may be for, again for each; '*' is every name "
    "(always: 127.0.0.1, localhost and --host)",
)
THREADS = typer.Option(
    "--threads", help="CPU threads of one prediction; more help long batches on idle cores alone"
)
PROMPTS = typer.Option("--max-prompts", help="prompts of a request")
CHARACTERS = typer.Option("--max-characters", help="characters of a prompt")
REQUEST = typer.Option("--max-request", help="characters of a request's prompts together")
BODY = typer.Option("--max-body", help="bytes of a request's body")
WAITING = typer.Option("--max-waiting", help="prompts that may wait; beyond: status 503")
BACKLOG = typer.Option("--max-backlog", help="characters that may wait; beyond: status 503")
CONNECTIONS = typer.Option("--max-connections", help="open connections")


def serve(
    router: Annotated[Path, ROUTER] = Path("data/router"),
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int, PORT] = 8000,
    allow: Annotated[list[str] | None, ALLOW] = None,
    allow_host: Annotated[list[str] | None, ALLOW_HOST] = None,
    threads: Annotated[int, THREADS] = 1,
    max_prompts: Annotated[int, PROMPTS] = GIVEN.prompts,
    max_characters: Annotated[int, CHARACTERS] = GIVEN.characters,
    max_request: Annotated[int, REQUEST] = GIVEN.request,
    max_body: Annotated[int, BODY] = GIVEN.body,
    max_waiting: Annotated[int, WAITING] = GIVEN.waiting,
    max_backlog: Annotated[int, BACKLOG] = GIVEN.backlog,
    max_connections: Annotated[int, CONNECTIONS] = GIVEN.connections,
) -> None:
    """Serve a trained router: POST /route, GET /healthz, GET /metrics, and a page at /."""
    with needs_extra("the service", "serve"):
        from promptroute.service.app import create_app
        from promptroute.service.connections import fit_connections
        from promptroute.service.gates import allowed_hosts
    from promptroute.router.router import Router
    from promptroute.runtime.device import set_threads

    hosts = allowed_hosts(allow_host or (), host)
    limits = Limits(
        prompts=max_prompts,
        characters=max_characters,
        request=max_request,
        body=max_body,
        waiting=max_waiting,
        backlog=max_backlog,
        connections=fit_connections(max_connections),
    )
    loaded = Router.load(router, allow or ())
    loaded.warm()
    set_threads(threads)
    run(create_app(loaded, limits, hosts), limits, host, port, f"serve: {router} on {{}} (Ctrl-C stops it)")


def run(app: "FastAPI", limits: Limits, host: str, port: int, line: str) -> None:
    """Serve until Ctrl-C, and print `line` once it can be reached, with the address in place of {}.

    Raises:
        UserError: see `listen`.
    """
    from promptroute.service.connections import Server, server_config

    with listen(host, port) as server:
        address, number = server.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        Server(server_config(app, limits), line.replace("{}", f"http://{shown}:{number}")).run(
            sockets=[server]
        )


def listen(host: str, port: int) -> socket.socket:
    """Make a listening socket.

    Raises:
        UserError: the address is not ours, or taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server((host, port), family=family)
        # Connections inherit it. Without it an answer's second packet waits 40 ms for the client's receipt.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"can't listen on {host} port {port} ({reason}); choose another --port") from error
