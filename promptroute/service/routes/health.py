"""GET /healthz: whether the service answers, and what it decides by."""

from dataclasses import asdict

from fastapi import APIRouter

from promptroute.service.errors import Json
from promptroute.service.routes.state import Service

router = APIRouter()


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz(service: Service) -> Json:
    """Say whether the service answers, and what it decides by."""
    return Json({"status": "ok", **service.engine.about(), "limits": asdict(service.limits)})
