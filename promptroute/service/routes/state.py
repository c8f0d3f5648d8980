"""What the routes share, as a FastAPI dependency."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from promptroute.service.batching import Batcher
from promptroute.service.engine import Engine, Predicted
from promptroute.service.limits import Limits
from promptroute.service.metrics import Metrics


@dataclass(frozen=True)
class State:
    """The parts of a running service."""

    engine: Engine
    limits: Limits
    batcher: Batcher[Predicted]
    metrics: Metrics


def state_of(request: Request) -> State:
    """Give the state of the service that a request came to."""
    state: State = request.app.state.service
    return state


Service = Annotated[State, Depends(state_of)]
