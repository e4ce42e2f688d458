"""Metrics in Prometheus' formats, and the model's performance as JSON."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from bc_pipeline.serving.content_negotiation import negotiate
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import Services, services_of
from bc_pipeline.serving.telemetry.performance import Performance, performance

router = APIRouter(route_class=ScopedRoute, tags=["health"])
_TEXT = "text/plain"
_OPEN_METRICS = "application/openmetrics-text"


@router.get(
    "/metrics",
    **docs.operation(
        "Prometheus metrics; with Accept: application/json, the model's performance",
        scope="read",
        answer=Performance,
        contents={
            _TEXT: docs.content(docs.TEXT),
            _OPEN_METRICS: docs.content(docs.TEXT),
        },
    ),
)
async def metrics(request: Request) -> Response:
    """Counts of all workers; the model is that of the worker that answers."""
    services = services_of(request)
    accept = request.headers.get("accept", "")
    services.exposition.publish()
    if negotiate(request, (_TEXT, _OPEN_METRICS, docs.JSON)) == docs.JSON:
        return json_response(await asyncio.to_thread(_performance, services))
    body, media_type = await asyncio.to_thread(
        lambda: services.exposition.encode(services.readiness(), accept)
    )
    # Set as a header: Starlette would add a second charset to a `media_type` of text.
    return Response(body, headers={"Content-Type": media_type})


def _performance(services: Services) -> Performance:
    return performance(
        services.settings,
        services.model_watcher.current,
        services.readiness().status,
        services.exposition.predictions(),
    )
