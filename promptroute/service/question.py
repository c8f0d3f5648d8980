"""The body of POST /route: bytes in, a checked question or a refusal out."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptroute.core.errors import UserError
from promptroute.router.router import Router
from promptroute.router.types import check_prompts
from promptroute.service.errors import ApiError
from promptroute.service.limits import Limits

Knob = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# A body over the limit is still taken off the wire, up to so many times the limit: a client that is cut off
# while it sends sees a broken connection, not our answer.
_DRAIN = 16


class Question(BaseModel):
    """Prompts, and what may differ from how the router decides by itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompts: list[str] = Field(min_length=1, description="texts to draw")
    tradeoff: Knob | None = Field(None, description="decide by quality - tradeoff · dollars instead")
    slack: Knob | None = Field(
        None, description="decide by the cheapest model within so much of the best quality instead"
    )
    models: list[str] | None = Field(None, min_length=1, description="models that may be chosen")

    @property
    def choosing(self) -> Mapping[str, Any]:
        """Arguments for `Router.choose`."""
        return {"tradeoff": self.tradeoff, "slack": self.slack, "models": self.models}


async def ask(request: Request, router: Router, limits: Limits) -> Question:
    """Read and check a request.

    Raises:
        ApiError: 400 (not JSON), 408 (slow), 413 (large), 415 (another type), 422 (anything else).
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"the Content-Type is {kind or 'missing'!r}; expected 'application/json'")
    if coding := request.headers.get("content-encoding"):
        raise ApiError(415, f"the Content-Encoding is {coding!r}; send the body as it is")
    try:
        async with asyncio.timeout(limits.seconds):
            body = await _body(request, limits.body)
    except TimeoutError:
        raise ApiError(
            408, f"the body did not arrive within {limits.seconds:g} seconds", {"Connection": "close"}
        ) from None
    return check(body, router, limits)


async def _body(request: Request, most: int) -> bytes:
    content, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= most:
            content += part
        if size > _DRAIN * most:
            break
    if size > most:
        raise ApiError(
            413,
            f"the body is larger than {most} bytes; send fewer prompts a request",
            {"Connection": "close"},
        )
    return bytes(content)


def check(body: bytes, router: Router, limits: Limits) -> Question:
    """What the body asks.

    Raises:
        ApiError: 400 or 422.
    """
    try:
        question = Question.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    if len(question.prompts) > limits.prompts:
        raise ApiError(422, f"{len(question.prompts)} prompts; at most {limits.prompts} a request")
    for index, prompt in enumerate(question.prompts):
        if len(prompt) > limits.characters:
            raise ApiError(
                422,
                f"prompt {index + 1} of {len(question.prompts)} has {len(prompt)} characters; "
                f"at most {limits.characters}",
            )
    try:
        check_prompts(question.prompts)
        router.choose(np.empty((0, len(router.models))), **question.choosing)
    except UserError as error:
        raise ApiError(422, str(error)) from None
    return question


def _refusal(error: ValidationError) -> ApiError:
    """The first fault that pydantic found, as one sentence."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f"{'.' * bool(i)}{part}"
        for i, part in enumerate(fault["loc"])
    )
    match fault["type"]:
        case "json_invalid":
            return ApiError(400, f"the body is not JSON: {fault['ctx']['error']}")
        case "model_type" | "model_attributes_type":
            return ApiError(422, 'the body must be an object, as {"prompts": ["a red car"]}')
        case "missing":
            return ApiError(422, f"{where} is missing; give a list of texts")
        case "extra_forbidden":
            known = ", ".join(Question.model_fields)
            return ApiError(422, f"field {ascii(where)[:60]} is unknown; expected some of {known}")
        case "too_short":
            return ApiError(422, f"{where} is empty; give at least one")
    message = fault["msg"].removeprefix("Input ")
    return ApiError(422, f"{where}: {message}")
