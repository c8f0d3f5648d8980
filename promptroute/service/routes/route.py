"""POST /route: prompts in, choices out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from starlette.requests import ClientDisconnect

from promptroute.core.errors import UserError
from promptroute.service.errors import ApiError, Json
from promptroute.service.routes.state import Service
from promptroute.service.schema import Choices, Question, Refusal

router = APIRouter()
Result = TypeVar("Result")


def checked(question: Question, service: Service) -> Question:
    """Refuse what is larger than the limits allow, or can't be routed.

    Raises:
        ApiError: 422.
    """
    limits, prompts = service.limits, question.prompts
    if len(prompts) > limits.prompts:
        raise ApiError(422, f"{len(prompts)} prompts; at most {limits.prompts} a request")
    for index, prompt in enumerate(prompts):
        if len(prompt) > limits.characters:
            raise ApiError(
                422,
                f"prompt {index + 1} of {len(prompts)} has {len(prompt)} characters; at most {limits.characters}",
            )
    if (size := sum(map(len, prompts))) > limits.request:
        raise ApiError(
            422, f"the prompts have {size} characters together; at most {limits.request} a request"
        )
    try:
        service.engine.check(prompts, question.choosing())
    except UserError as error:
        raise ApiError(422, str(error)) from None
    return question


@router.post(
    "/route", responses={200: {"model": Choices}, "4XX": {"model": Refusal}, 503: {"model": Refusal}}
)
async def route(request: Request, question: Annotated[Question, Depends(checked)], service: Service) -> Json:
    """Choose a model for each prompt."""
    rows = await while_connected(request, service.batcher.predict(question.prompts))
    decisions = service.engine.decide(question.prompts, rows, question.choosing())
    service.metrics.chosen([decision.model for decision in decisions])
    return Json(
        {
            "decisions": [
                {
                    "model": decision.model,
                    "cost": decision.cost,
                    "quality": dict(decision.quality),
                    "costs": service.engine.costs,
                    "reason": decision.reason,
                }
                for decision in decisions
            ]
        }
    )


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
