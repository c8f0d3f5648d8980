"""POST /route: prompts in, choices out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from promptroute.router.types import Asked
from promptroute.service.errors import Json, refused
from promptroute.service.routes.predicted import predicted
from promptroute.service.routes.state import Service
from promptroute.service.schema import Choices, Question, Refusal

router = APIRouter()


def checked(question: Question, service: Service) -> tuple[list[str], Asked]:
    """Return the prompts and how to decide.

    Raises:
        ApiError: 422, it is larger than the limits allow, or can't be routed.
    """
    with refused():
        service.limits.check(question.prompts)
        return question.prompts, service.engine.asked(question.prompts, question.choosing())


@router.post(
    "/route", responses={200: {"model": Choices}, "4XX": {"model": Refusal}, 503: {"model": Refusal}}
)
async def route(
    request: Request, question: Annotated[tuple[list[str], Asked], Depends(checked)], service: Service
) -> Json:
    """Choose a model for each prompt."""
    prompts, asked = question
    rows = await predicted(request, prompts, service)
    decisions = service.engine.decide(prompts, rows, asked)
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
