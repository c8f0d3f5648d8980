"""POST /next: prompts and the scores of their images in, what to do next out."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from promptroute.service.engine import Looked
from promptroute.service.errors import Json, refused
from promptroute.service.routes.predicted import predicted
from promptroute.service.routes.state import Service
from promptroute.service.schema import Refusal, Sight, Steps

router = APIRouter()


def checked(sight: Sight, service: Service) -> tuple[list[str], Looked]:
    """Return the prompts, and what their images show.

    Raises:
        ApiError: 422, it is larger than the limits allow, or says what can't be.
    """
    with refused():
        service.limits.check(sight.prompts)
        seen = [{} for _ in sight.prompts] if sight.seen is None else sight.seen
        return sight.prompts, service.engine.looked(sight.prompts, seen, sight.models)


@router.post("/next", responses={200: {"model": Steps}, "4XX": {"model": Refusal}, 503: {"model": Refusal}})
async def following(
    request: Request, sight: Annotated[tuple[list[str], Looked], Depends(checked)], service: Service
) -> Json:
    """Say what to do next for each prompt: generate with which model, or deliver which image."""
    prompts, looked = sight
    recent = service.engine.recent
    quality = {prompt: recent.get(prompt) for prompt in prompts}
    if new := [prompt for prompt, row in quality.items() if row is None]:
        for prompt, row in zip(new, await predicted(request, new, service), strict=True):
            quality[prompt] = row.quality
            recent.add(prompt, row.quality)
    steps = service.engine.steps([quality[prompt] for prompt in prompts], looked)  # type: ignore[misc]
    service.metrics.stepped(steps)
    return Json({"steps": [asdict(step) for step in steps]})
