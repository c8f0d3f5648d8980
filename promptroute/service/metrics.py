"""Counts and times of the service, for Prometheus."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptroute.router.types import Next

__all__ = ["CONTENT_TYPE", "Measured", "Metrics"]

# Seconds; a prompt alone takes about one to ten milliseconds, a full batch about a second.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """What is counted. Every label takes a few known values, so that strangers can't fill the memory.

    Args:
        paths: the service's paths; any other is counted as "other".
        models: names of the models, so that a model never chosen shows as 0.
        waiting: gives the number of prompts that wait now.
    """

    def __init__(self, paths: Sequence[str], models: Sequence[str], waiting: Callable[[], float]) -> None:
        self._paths, self._registry = frozenset(paths), CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered.", "path", "code")
        self._errors = self._counter("errors", "Requests answered with a status of 400 or more.", "code")
        self._prompts = self._counter("prompts", "Prompts routed.")
        self._choices = self._counter("choices", "Prompts routed to each model.", "model")
        self._images = self._counter("images", "Images that POST /next asked each model for.", "model")
        self._kept = self._counter("kept", "Prompts that POST /next ended with each model's image.", "model")
        about, registry = "Seconds to answer POST /route with 200.", self._registry
        self._seconds = Histogram("promptroute_route_seconds", about, buckets=BUCKETS, registry=registry)
        about = "Prompts that wait for the predictor."
        Gauge("promptroute_waiting_prompts", about, registry=registry).set_function(waiting)
        for name in models:
            for counter in (self._choices, self._images, self._kept):
                counter.labels(name)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"promptroute_{name}", about, labels, registry=self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request; the histogram holds those to /route that were answered with 200."""
        path = path if path in self._paths else "other"
        self._requests.labels(path, str(status)).inc()
        if status >= 400:
            self._errors.labels(str(status)).inc()
        elif path == "/route":
            self._seconds.observe(seconds)

    def chosen(self, models: Sequence[str]) -> None:
        """Count the choices of one request."""
        self._prompts.inc(len(models))
        for name, count in Tally(models).items():
            self._choices.labels(name).inc(count)

    def stepped(self, steps: Sequence[Next]) -> None:
        """Count the steps of one request."""
        for step in steps:
            if step.model is not None:
                self._images.labels(step.model).inc()
            elif step.keep is not None:
                self._kept.labels(step.keep).inc()

    def text(self) -> bytes:
        """Give everything so far in Prometheus's text format, version 0.0.4."""
        return generate_latest(self._registry)


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
