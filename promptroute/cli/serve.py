"""Serve the trained router over HTTP, with a page to try prompts on.

python -m promptroute.cli.serve --router data/router --host 127.0.0.1 --port 8000
curl -H 'Content-Type: application/json' -d '{"prompts": ["a red car"]}' http://127.0.0.1:8000/route
"""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.router.router import Router
from promptroute.runtime.stage import run_stage
from promptroute.service.limits import Limits

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m promptroute.cli.serve",
        description="Serve a trained router: POST /route, GET /healthz, GET /metrics, and a page at /.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    given, number = Limits(), int
    parser.add_argument("--router", type=Path, default=Path("data/router"), help="router folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every network")
    parser.add_argument("--port", type=number, default=8000, help="port to listen on; 0 takes a free one")
    parser.add_argument("--threads", type=number, default=CORES, help="CPU threads of one prediction")
    parser.add_argument("--max-prompts", type=number, default=given.prompts, help="prompts a request")
    parser.add_argument("--max-characters", type=number, default=given.characters, help="characters a prompt")
    parser.add_argument("--max-body", type=number, default=given.body, help="bytes of a request's body")
    parser.add_argument(
        "--max-waiting", type=number, default=given.waiting, help="prompts that may wait; beyond: status 503"
    )
    return parser.parse_args(arguments)


def set_threads(threads: int) -> None:
    """Decide once how many threads one prediction may use, in torch (where it is loaded) and in BLAS.

    Raises:
        UserError: `threads` is below 1.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if threads < 1:
        raise UserError(f"--threads is {threads}; expected 1 or more")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    threadpool_limits(threads)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the address is not ours, or taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server((host, port), family=family, backlog=2048)
        # Connections inherit it. Without it an answer's second packet waits 40 ms for the client's receipt.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"can't listen on {host} port {port} ({reason}); choose another --port") from error


def main() -> None:
    options = parse()
    try:
        import uvicorn

        from promptroute.service.app import create_app
    except ImportError as error:
        raise UserError(
            f"the service needs a library that is not installed ({error.name}); pip install '.[serve]'"
        ) from error
    limits = Limits(
        prompts=options.max_prompts,
        characters=options.max_characters,
        body=options.max_body,
        waiting=options.max_waiting,
    )
    router = Router.load(options.router)
    router.warm()
    set_threads(options.threads)
    with listen(options.host, options.port) as server:
        host, port = server.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"serve: {options.router} on http://{shown}:{port} (Ctrl-C stops it)", flush=True)
        config = uvicorn.Config(
            create_app(router, limits),
            log_level="warning",  # prompts may be private: what is asked is counted, not logged
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=30,
        )
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    run_stage(main)
