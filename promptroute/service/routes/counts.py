"""GET /metrics: counts and times, for Prometheus."""

from fastapi import APIRouter, Response

from promptroute.service.metrics import CONTENT_TYPE
from promptroute.service.routes.state import Service

router = APIRouter()


@router.get("/metrics", response_class=Response)
async def metrics(service: Service) -> Response:
    """Give counts and times, for Prometheus."""
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
