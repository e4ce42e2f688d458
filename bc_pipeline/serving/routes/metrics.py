"""Figures for machines: Prometheus' formats, and the model's performance as JSON."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from bc_pipeline.serving.accept import preferred
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.exchange import services_of
from bc_pipeline.serving.pages.documentation import JSON, content, operation
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.exposition import answered, expose, observe
from bc_pipeline.serving.telemetry.performance import Performance, performance
from bc_pipeline.serving.telemetry.readiness import readiness

router = APIRouter(route_class=ScopedRoute, tags=["health"])
_TEXT = "text/plain"
_OPEN_METRICS = "application/openmetrics-text"


@router.get(
    "/metrics",
    **operation(
        "Prometheus metrics; with Accept: application/json, the model's performance",
        scope="read",
        answer=Performance,
        contents={
            _TEXT: content({"type": "string"}),
            _OPEN_METRICS: content({"type": "string"}),
        },
    ),
)
async def metrics(request: Request) -> Response:
    """Counted by all workers; the one that answers says what is live."""
    services = services_of(request)
    accept = request.headers.get("accept", "")
    observe(services)
    if preferred(accept, (_TEXT, _OPEN_METRICS, JSON)) == JSON:
        return json_answer(await asyncio.to_thread(_performance, services))
    body, media_type = await asyncio.to_thread(_exposition, services, accept)
    # As a header: a media type of text would be given its charset twice.
    return Response(body, headers={"Content-Type": media_type})


def _performance(services: Services) -> Performance:
    return performance(services.model.current, readiness(services).status, answered(services))


def _exposition(services: Services, accept: str) -> tuple[bytes, str]:
    return expose(services, readiness(services), accept)
