"""Whether the process lives, whether it can answer, and how it is doing."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from bc_pipeline import clock
from bc_pipeline.errors import NoChampion, RecordsAway
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.accept import preferred
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.exchange import services_of
from bc_pipeline.serving.pages.documentation import JSON, content, operation
from bc_pipeline.serving.pages.health_page import page
from bc_pipeline.serving.pages.text_page import POLICY
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.readiness import Readiness, readiness, records_facts

router = APIRouter(route_class=ScopedRoute, tags=["health"])
_HTML = "text/html"
_PARTS = {"type": "object", "additionalProperties": {"type": "string"}}
_LIVE = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"const": "ok"}},
}
_READY = {
    "type": "object",
    "required": ["status", "model_version", "parts"],
    "properties": {
        "status": {"const": "ok"},
        "model_version": {"type": "string"},
        "parts": _PARTS,
    },
}
_HEALTH = {
    "type": "object",
    "required": ["status", "model_version", "parts", "records", "refused"],
    "properties": {
        "status": {"const": "ok"},
        "model_version": {"type": "string"},
        "parts": _PARTS,
        "records": {"type": "object"},
        "refused": {"type": "object"},
    },
}


@router.get("/livez", **operation("Whether the process answers", scope="public", answer=_LIVE))
async def livez() -> Response:
    """Looks at nothing: a process that answers this need not be restarted."""
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    **operation(
        "Whether predictions can be answered: a verified model, and a log to record them in",
        scope="public",
        answer=_READY,
        refusals=(NoChampion, RecordsAway),
    ),
)
async def readyz(request: Request) -> Response:
    """While the database is away predictions go on, so it makes nothing unready; it is shown."""
    services = services_of(request)
    found = await asyncio.to_thread(readiness, services)
    if found.error is not None:
        return problem_details.from_error(found.error, parts=found.parts)
    return json_answer(
        {"status": "ok", "model_version": services.live.version, "parts": found.parts}
    )


@router.get(
    "/health",
    **operation(
        "The state of every part, for people: which model answers, and what was refused",
        scope="public",
        answer=_HEALTH,
        contents={_HTML: content({"type": "string"})},
        refusals=(NoChampion, RecordsAway),
    ),
)
async def health(request: Request) -> Response:
    """A page for a browser, else JSON; 503 exactly where ``/readyz`` is."""
    services = services_of(request)
    found = await asyncio.to_thread(readiness, services)
    facts = _facts(services, found)
    if preferred(request.headers.get("accept", ""), (JSON, _HTML)) == _HTML:
        status = 200
        if found.error is not None:
            status = problem_details.problem_type(type(found.error)).status
        return HTMLResponse(page(facts, found.error), status, {"Content-Security-Policy": POLICY})
    if found.error is not None:
        return problem_details.from_error(found.error, **facts)
    return json_answer({"status": "ok"} | facts)


def _facts(services: Services, found: Readiness) -> dict[str, Any]:
    model, live = services.model, services.model.current
    facts: dict[str, Any] = {}
    if live is not None:
        facts = {
            "problem": live.manifest.problem,
            "model_version": live.version,
            "manifest_sha256": live.manifest_sha256,
            "source": live.source,
            "generation": live.generation,
            "loaded_at": clock.format_time(live.loaded_at),
        }
    refused = model.last_refusal
    return facts | {
        "parts": found.parts,
        "records": records_facts(found),
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
