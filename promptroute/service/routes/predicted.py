"""What the predictor says of a request's prompts, as long as somebody waits for it."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from promptroute.service.engine import Predicted
from promptroute.service.routes.state import State

Result = TypeVar("Result")


async def predicted(request: Request, prompts: Sequence[str], service: State) -> list[Predicted]:
    """Predict a request's prompts, in turn with those of other clients.

    Raises:
        ClientDisconnect: the client went away.
        ApiError: 503, too much is waiting already.
    """
    client = request.client.host if request.client else ""
    return await while_connected(request, service.batcher.predict(prompts, client))


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work`, and cancel it where the client goes away.

    Raises:
        ClientDisconnect: it did.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # after the body, nothing but a disconnect can come
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
