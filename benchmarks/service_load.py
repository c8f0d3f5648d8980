"""Load the service for a bounded time: requests a second, latency, and errors, of which there must be none.

    python -m benchmarks.service_load                              starts `promptroute serve` by itself
    python -m benchmarks.service_load --router A --seconds 20 --connections 16 --batch 1
    python -m benchmarks.service_load --address http://127.0.0.1:8000

Each connection sends its next request when the last was answered, over keep-alive HTTP. Client and service share this
machine's cores, so the figures are a lower bound. Exits with 1 if any request fails.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.latency import read_prompts
from benchmarks.reporting import markdown
from promptroute.core.errors import UserError
from promptroute.runtime.stage import run_stage


@contextlib.contextmanager
def service(router: Path, threads: int) -> Iterator[str]:
    """Start a service in its own process; give its address.

    Raises:
        UserError: the service does not start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "promptroute", "serve", "--router", str(router), "--port", "0", "--threads", str(threads)],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    try:
        line = process.stdout.readline()
        if " on http://" not in line:
            raise UserError(f"{router}: the service did not start")
        yield line.split(" on ")[1].split(" ")[0]
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


async def load(
    address: str, bodies: Sequence[bytes], connections: int, seconds: float
) -> tuple[np.ndarray, Counter[str]]:
    """Send requests; return seconds of each answered request, float64 [n], and the count of each other outcome."""
    host, port = address.removeprefix("http://").rsplit(":", 1)
    took: list[float] = []
    faults: Counter[str] = Counter()
    end = time.perf_counter() + seconds

    async def connection(number: int) -> None:
        # Plain streams: a client library would use more of the shared cores than the service does.
        reader, writer = await asyncio.open_connection(host, int(port))
        turn = number
        while (started := time.perf_counter()) < end:
            body = bodies[turn % len(bodies)]
            turn += connections
            writer.write(
                b"POST /route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            try:
                async with asyncio.timeout(60):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    length = int(head.split("content-length:")[1].split("\r\n")[0])
                    answer = await reader.readexactly(length)
            except (OSError, EOFError, TimeoutError, IndexError) as error:
                faults[type(error).__name__] += 1
                return
            if " 200 " in head.split("\r\n")[0] and answer.startswith(b'{"decisions"'):
                took.append(time.perf_counter() - started)
            else:
                faults[head.split(" ")[1]] += 1
        writer.close()

    results = await asyncio.gather(*map(connection, range(connections)), return_exceptions=True)
    faults.update(type(result).__name__ for result in results if isinstance(result, BaseException))
    return np.array(took), faults


def main() -> str:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_load", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--router", type=Path, default=Path("data/router"), help="router folder")
    parser.add_argument("--address", help="of a running service, in place of starting one")
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts.parquet"), help="parquet or text")
    parser.add_argument("--seconds", type=float, default=20, help="default: %(default)s, at most 120")
    parser.add_argument("--connections", type=int, default=16, help="default: %(default)s, at most 256")
    parser.add_argument("--batch", type=int, default=1, help="prompts a request (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=1, help="the service's --threads (default: %(default)s)"
    )
    options = parser.parse_args()
    seconds, connections = min(options.seconds, 120.0), min(options.connections, 256)
    texts = [prompt[:2000] for prompt in read_prompts(options.prompts, 64 * options.batch)]
    bodies = [
        json.dumps({"prompts": texts[i : i + options.batch]}).encode()
        for i in range(0, len(texts), options.batch)
    ]
    with contextlib.ExitStack() as stack:
        address = options.address or stack.enter_context(service(options.router, options.threads))
        asyncio.run(load(address, bodies, connections, min(2.0, seconds)))  # warm-up
        started = time.perf_counter()
        took, faults = asyncio.run(load(address, bodies, connections, seconds))
        elapsed = time.perf_counter() - started
    milliseconds = 1000 * np.percentile(took, [50, 95, 99]) if len(took) else np.full(3, np.nan)
    rate = len(took) / elapsed
    about = (
        f"{connections} connections for {elapsed:.0f} s, {options.batch} prompt(s) a request, "
        f"client beside the service, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    head = "requests | requests/s | prompts/s | p50 ms | p95 ms | p99 ms | errors"
    figures = [f"{len(took):,}", f"{rate:,.0f}", f"{rate * options.batch:,.0f}"]
    line = [*figures, *(f"{value:.1f}" for value in milliseconds), str(sum(faults.values()))]
    shown = f"{about}\n\n{markdown(head, [line])}"
    if faults or not len(took):
        print(shown)
        raise UserError(f"requests failed: {dict(faults) or 'none was answered'}")
    return shown


if __name__ == "__main__":
    run_stage(main)
