"""The FastAPI application."""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from promptroute.router.router import Router
from promptroute.service.batching import Batcher
from promptroute.service.errors import ApiError
from promptroute.service.limits import Limits
from promptroute.service.metrics import CONTENT_TYPE, Measured, Metrics
from promptroute.service.question import Question, ask

PATHS = ("/", "/route", "/healthz", "/metrics")


def create_app(router: Router, limits: Limits | None = None) -> FastAPI:
    """The service around a loaded router; call `router.warm()` first, or the first request will wait.

    Every answer but the page and the metrics is JSON; every refusal is {"error": one sentence}.
    """
    limits = limits or Limits()

    def look(prompts: Sequence[str]) -> np.ndarray:
        return np.column_stack(router.assess(prompts))  # the last column says which are out-of-distribution

    batcher = Batcher(look, together=limits.prompts, waiting=limits.waiting)
    metrics = Metrics(PATHS, router.names)
    page, policy = _page()
    costs = {model.name: model.cost for model in router.models}
    about = {
        "status": "ok",
        "models": [asdict(model) for model in router.models],
        "scores": router.quality.scores,
        "policy": router.policy.describe(router.names),
        "limits": asdict(limits),
    }

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()

    # The interactive pages that FastAPI offers load their scripts from elsewhere; ours doesn't.
    app = FastAPI(
        title="promptroute", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.add_middleware(Measured, metrics=metrics)

    body = {"content": {"application/json": {"schema": Question.model_json_schema()}}, "required": True}

    @app.post("/route", openapi_extra={"requestBody": body})
    async def route(request: Request) -> Response:
        """Choose a model for each prompt."""
        question = await ask(request, router, limits)
        predicted = await batcher.predict(question.prompts)
        decisions = router.decide(
            question.prompts, predicted[:, :-1], ood=predicted[:, -1] > 0, **question.choosing
        )
        metrics.chosen([one.model for one in decisions])
        return _json(
            {
                "decisions": [
                    {
                        "model": one.model,
                        "cost": one.cost,
                        "quality": one.quality,
                        "costs": costs,
                        "reason": one.reason,
                    }
                    for one in decisions
                ]
            }
        )

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> Response:
        """Whether the service answers, and what it decides by."""
        return _json(about)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(metrics.text(batcher.waiting), media_type=CONTENT_TYPE)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def try_prompts() -> Response:
        return Response(
            page,
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )

    @app.exception_handler(ApiError)
    async def refuse(_: Request, refusal: ApiError) -> Response:
        return _json({"error": refusal.message}, refusal.status, refusal.headers)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.NOT_FOUND:
            message = f"there is no such path; there are {', '.join(PATHS)}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            message = f"this path does not take {request.method}; use {allowed}"
        else:
            message = str(error.detail)
        return _json({"error": message}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return _json({"error": "the client went away"}, 400)  # nobody reads it

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> Response:
        # The server logs the traceback; a caller needs to know only that the fault is ours.
        return _json({"error": "the service failed on this request; its log says why"}, 500)

    return app


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """ASCII, so that no text that a caller sent can break the encoding."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(
        content,
        status,
        {**(headers or {}), "X-Content-Type-Options": "nosniff"},
        media_type="application/json",
    )


def _page() -> tuple[str, str]:
    """The page, and the Content-Security-Policy that lets it run its own style and script and nothing else."""
    page = files("promptroute.service").joinpath("page.html").read_text(encoding="utf-8")
    allowed = {}
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = hashlib.sha256(content.encode()).digest()
        allowed[tag] = f"'sha256-{base64.b64encode(digest).decode()}'"
    policy = (
        f"default-src 'none'; style-src {allowed['style']}; script-src {allowed['script']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy
