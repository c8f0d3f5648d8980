"""The FastAPI application."""

import contextlib
from collections.abc import AsyncIterator, Collection

from fastapi import FastAPI

from promptroute.router.router import Router
from promptroute.service.batching import Batcher
from promptroute.service.engine import Engine
from promptroute.service.errors import PATHS, add_handlers
from promptroute.service.gates import LOCAL, Bodies, Hosts
from promptroute.service.limits import Limits
from promptroute.service.metrics import Measured, Metrics
from promptroute.service.routes import counts, health, next, page, route
from promptroute.service.routes.state import State


def create_app(router: Router, limits: Limits | None = None, hosts: Collection[str] = LOCAL) -> FastAPI:
    """Make the service around a loaded router; call `router.warm()` first, or the first request will wait.

    Every answer but the page and the metrics is JSON; every refusal is {"error": one sentence}.

    Args:
        router: what decides.
        limits: how much may be asked; the defaults where None.
        hosts: names and addresses that requests may be for; "*" is every host.
    """
    limits, engine = limits or Limits(), Engine(router)
    batcher = Batcher(engine.predict, limits)
    metrics = Metrics(PATHS, engine.names, waiting=lambda: batcher.waiting)
    # The interactive pages that FastAPI offers load their scripts from elsewhere; ours doesn't.
    app = FastAPI(
        title="promptroute", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=_lifespan
    )
    app.state.service = State(engine, limits, batcher, metrics)
    for part in (page, route, next, health, counts):
        app.include_router(part.router)
    add_handlers(app)
    app.add_middleware(Bodies, limits=limits)  # the last that is added is the first that a request meets
    app.add_middleware(Hosts, hosts=hosts)
    app.add_middleware(Measured, metrics=metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.service.batcher.close()
