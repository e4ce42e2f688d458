"""Whether the process lives, whether it can answer, and how it is doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from bc_pipeline import clock
from bc_pipeline.errors import NoChampion, RecordsAway
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.documentation import operation
from bc_pipeline.serving.exchange import services_of
from bc_pipeline.serving.services import Services

router = APIRouter(route_class=ScopedRoute, tags=["health"])


@router.get("/livez", **operation("Whether the process answers", scope="public"))
async def livez() -> Response:
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    **operation(
        "Whether predictions can be answered: a verified model, and a log to record them in",
        scope="public",
        refusals=(NoChampion, RecordsAway),
    ),
)
async def readyz(request: Request) -> Response:
    services = services_of(request)
    services.require_log()
    return json_answer({"status": "ok", "model_version": services.live.version})


@router.get(
    "/health",
    **operation(
        "Both, for people: which model answers, and what was refused",
        scope="public",
        refusals=(NoChampion, RecordsAway),
    ),
)
async def health(request: Request) -> Response:
    services = services_of(request)
    facts = _facts(services)
    try:
        live = services.live
        services.require_log()
    except (NoChampion, RecordsAway) as error:
        return problem_details.from_error(error, **facts)
    return json_answer(
        {
            "status": "ok",
            "problem": live.manifest.problem,
            "model_version": live.version,
            "manifest_sha256": live.manifest_sha256,
            "source": live.source,
            "generation": live.generation,
            "loaded_at": clock.format_time(live.loaded_at),
        }
        | facts
    )


def _facts(services: Services) -> dict[str, Any]:
    model = services.model
    refused = model.last_refusal
    return {
        "checked_at": clock.format_time(model.checked_at) if model.checked_at else None,
        "refused": {
            "count": model.refusals,
            "last": {
                "version": refused.version,
                "code": refused.code,
                "reason": refused.reason,
                "at": clock.format_time(refused.at),
            }
            if refused
            else None,
        },
    }
