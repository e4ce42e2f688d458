"""Liveness, readiness, and the state of every part of the service."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from bc_pipeline import clock
from bc_pipeline.errors import NoChampion, RecordsAway
from bc_pipeline.serving import error_responses
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.content_negotiation import negotiate
from bc_pipeline.serving.model.audit_watch import AuditFault
from bc_pipeline.serving.model.model_watcher import ModelRefusal
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.pages.text_pages import POLICY, render_health
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import Services, services_of
from bc_pipeline.serving.telemetry.readiness import Readiness, prediction_log_status

router = APIRouter(route_class=ScopedRoute, tags=["health"])
_HTML = "text/html"


class Live(ApiModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(Live):
    """Predictions can be answered."""

    model_version: str
    parts: dict[str, str]


class LogHealth(ApiModel):
    """The prediction log, and the database that it is drained to.

    Attributes
    ----------
    oldest_waiting_seconds : float
        Age of the oldest record that is not in the database yet.
    """

    log: str
    database: str
    database_since: str | None
    database_error: str | None
    backlog_bytes: int
    oldest_waiting_seconds: float
    damaged: int
    refused: int
    reported_at: str | None


class Refusals(ApiModel):
    """Versions that were not loaded; 'last' is null once a version is loaded."""

    count: int
    last: ModelRefusal | None


class AuditHealth(ApiModel):
    """The audit log, compared with what the service remembers of it.

    Attributes
    ----------
    distrusted_keys : list of str
        Ids of compromised signing keys, whose signatures do not count any more.
    """

    fault: AuditFault | None
    distrusted_keys: list[str]


class Health(Live):
    """Predictions can be answered; the state of every part.

    Attributes
    ----------
    generation : int
        How often the production version was changed; 0 where a folder is served.
    checked_at : str or None
        When the registry was last read.
    """

    problem: str
    model_version: str
    manifest_sha256: str
    source: str
    generation: int
    loaded_at: str
    parts: dict[str, str]
    records: LogHealth
    checked_at: str | None
    refused: Refusals
    audit: AuditHealth


@router.get("/livez", **docs.operation("Whether the process answers", scope="public", answer=Live))
async def livez() -> Response:
    """Checks nothing else: a process that answers this need not be restarted."""
    return json_response(Live(status="ok"))


@router.get(
    "/readyz",
    **docs.operation(
        "Whether predictions can be answered: a verified model, and a log to record them in",
        scope="public",
        answer=Ready,
        errors=(NoChampion, RecordsAway),
    ),
)
def readyz(request: Request) -> Response:
    """Shows the database, but does not depend on it: predictions are answered without it."""
    services = services_of(request)
    state = services.readiness()
    if state.error is not None:
        response = error_responses.from_error(state.error, parts=state.parts)
        return error_responses.complete_for(request, response)
    version = services.loaded_model.version
    return json_response(Ready(status="ok", model_version=version, parts=state.parts))


@router.get(
    "/health",
    **docs.operation(
        "The state of every part, for people: which model answers, and what was refused",
        scope="public",
        answer=Health,
        contents={_HTML: docs.content(docs.TEXT)},
        errors=(NoChampion, RecordsAway),
    ),
)
def health(request: Request) -> Response:
    """A page for a browser, else JSON; 503 exactly where ``/readyz`` is."""
    services = services_of(request)
    state = services.readiness()
    facts = _facts(services, state)
    if negotiate(request, (docs.JSON, _HTML)) == _HTML:
        status = 200
        if state.error is not None:
            status = error_responses.error_type(type(state.error)).status
        page = render_health(facts, state.error)
        return HTMLResponse(page, status, {"Content-Security-Policy": POLICY})
    if state.error is not None:
        response = error_responses.from_error(state.error, **facts)
        return error_responses.complete_for(request, response)
    return json_response(Health.model_validate({"status": "ok"} | facts))


def _facts(services: Services, state: Readiness) -> dict[str, Any]:
    """Members of `Health`, those of the model only where one is loaded."""
    watcher, model = services.model_watcher, services.model_watcher.current
    # Read once: the watcher resets it in another thread.
    refusal, fault = watcher.last_refusal, watcher.audit.fault
    facts: dict[str, Any] = {}
    if model is not None:
        facts = {
            "problem": model.manifest.problem,
            "model_version": model.version,
            "manifest_sha256": model.manifest_sha256,
            "source": model.source,
            "generation": model.generation,
            "loaded_at": clock.format_time(model.loaded_at),
        }
    return facts | {
        "parts": state.parts,
        "records": prediction_log_status(state),
        "checked_at": clock.format_time(watcher.checked_at) if watcher.checked_at else None,
        "refused": {
            "count": watcher.refusals,
            "last": refusal.model_dump() if refusal is not None else None,
        },
        "audit": {
            "fault": fault.model_dump() if fault is not None else None,
            "distrusted_keys": list(watcher.audit.distrusted_keys),
        },
    }
