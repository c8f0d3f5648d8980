"""Counts and times of the service, in the text format that Prometheus reads (version 0.0.4)."""

import time
from collections import Counter
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds; a prompt alone takes about one to ten milliseconds, a full batch about a second.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Filled on the event loop alone, so it needs no lock.

    Args:
        paths: the service's paths; any other is counted as "other", so that strangers can't fill the memory.
        models: names of the models, so that one never chosen shows as 0.
    """

    def __init__(self, paths: Sequence[str], models: Sequence[str]) -> None:
        self._paths = frozenset(paths)
        self.requests: Counter[tuple[str, int]] = Counter()
        self.errors: Counter[int] = Counter()
        self.choices: Counter[str] = Counter(dict.fromkeys(models, 0))
        self.prompts = 0
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request; the histogram holds those to /route that were answered with 200."""
        path = path if path in self._paths else "other"
        self.requests[path, status] += 1
        if status >= 400:
            self.errors[status] += 1
        elif path == "/route":
            place = sum(seconds > edge for edge in BUCKETS)
            self._buckets[place] += 1
            self._seconds += seconds

    def chosen(self, models: Sequence[str]) -> None:
        """Count the choices of one request."""
        self.prompts += len(models)
        self.choices.update(models)

    def text(self, waiting: int) -> str:
        """Everything so far; `waiting` is the number of prompts that wait now."""
        lines: list[str] = []

        def family(name: str, kind: str, text: str, rows: Sequence[tuple[str, float]]) -> None:
            lines.extend((f"# HELP promptroute_{name} {text}", f"# TYPE promptroute_{name} {kind}"))
            lines.extend(f"promptroute_{name}{labels} {value:.9g}" for labels, value in rows)

        family(
            "requests_total",
            "counter",
            "Requests answered.",
            [
                (f'{{path="{path}",code="{status}"}}', count)
                for (path, status), count in sorted(self.requests.items())
            ],
        )
        family(
            "errors_total",
            "counter",
            "Requests answered with a status of 400 or more.",
            [(f'{{code="{status}"}}', count) for status, count in sorted(self.errors.items())],
        )
        family("prompts_total", "counter", "Prompts routed.", [("", self.prompts)])
        family("waiting_prompts", "gauge", "Prompts that wait for the predictor.", [("", waiting)])
        family(
            "choices_total",
            "counter",
            "Prompts routed to each model.",
            [(f'{{model="{name}"}}', count) for name, count in sorted(self.choices.items())],
        )
        cumulative, rows = 0, []
        for edge, count in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            cumulative += count
            rows.append((f'_bucket{{le="{edge}"}}', float(cumulative)))
        rows += [("_sum", self._seconds), ("_count", cumulative)]
        family("route_seconds", "histogram", "Seconds to answer POST /route with 200.", rows)
        return "\n".join(lines) + "\n"


class Measured:
    """ASGI middleware: every request's path, status and seconds go to `metrics`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.request(scope["path"], status, time.perf_counter() - started)
