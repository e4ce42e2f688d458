"""Retrain: start a run of the real workflow, and follow it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.errors import (
    AirflowAway,
    AirflowRefused,
    BodyTooLarge,
    BodyUnreadable,
    ConfigError,
    Defect,
    HeaderRefused,
    KeyReused,
    MediaTypeRefused,
    NotThere,
    SchemaMismatch,
)
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.bodies.plain_json import read_struct, refusal
from bc_pipeline.serving.bodies.reading import Headers, read_body, require_json
from bc_pipeline.serving.exchange import exchange_of, headers_of, services_of
from bc_pipeline.serving.pages.documentation import (
    JSON,
    Example,
    Success,
    content,
    operation,
    parameter,
    request_body,
)
from bc_pipeline.serving.retraining import SAME_KEY, Retrain, Retraining, RetrainOrder

router = APIRouter(route_class=ScopedRoute, tags=["retrain"])
_KEY = b"idempotency-key"
_KEY_LENGTH = 128
_ORDER_LIMIT = 4096
_RUN: dict[str, Any] = {
    "id": "01900000-0000-7000-8000-000000000000",
    "dag": "wdbc_retrain",
    "state": "queued",
    "queued_at": "2026-11-21T08:30:00Z",
    "started_at": None,
    "ended_at": None,
    "tasks": [],
}
_RUNNING = _RUN | {
    "state": "running",
    "started_at": "2026-11-21T08:30:01Z",
    "tasks": [
        {
            "task": "ingest",
            "map_index": -1,
            "state": "running",
            "attempt": 1,
            "started_at": "2026-11-21T08:30:02Z",
            "ended_at": None,
        }
    ],
}
_START = operation(
    "Start a retrain through Airflow",
    scope="retrain",
    answer=Retrain,
    status=HTTPStatus.ACCEPTED,
    description="The run was started; follow it at the address in 'Location'.",
    headers=("Location",),
    example=_RUN,
    others={
        HTTPStatus.OK: Success(
            "This key started the run before; nothing new was started.",
            Retrain,
            None,
            ("Location",),
        )
    },
    parameters=[
        parameter(
            "Idempotency-Key",
            "header",
            "Made by the client, new for each retrain that it wants: the same key again finds "
            "the same run.",
            schema={"type": "string", "minLength": 1, "maxLength": _KEY_LENGTH},
            required=True,
        )
    ],
    body=request_body(
        {
            JSON: content(
                RetrainOrder, approval=Example("A person decides", {"require_approval": True})
            )
        },
        "May be left out.",
        required=False,
    ),
    refusals=(
        BodyUnreadable,
        BodyTooLarge,
        MediaTypeRefused,
        SchemaMismatch,
        KeyReused,
        AirflowAway,
        AirflowRefused,
    ),
)


@router.post("/v1/retrain", **_START)
@router.post("/retrain", include_in_schema=False, **_START)
async def start(request: Request) -> Response:
    """Trigger the problem's retrain workflow: land, validate, train, evaluate, gate, promote.

    The gate decides whether the new model becomes the champion. When Airflow does not answer,
    nothing is lost: send the same key again.
    """
    headers = headers_of(request.scope)
    key = _idempotency_key(headers)
    order = _order(headers, await read_body(request.receive, headers, _ORDER_LIMIT))
    caller = exchange_of(request).caller
    services = services_of(request)
    retraining, key_id = Retraining(services.settings), caller.key_id if caller else ""
    run, found = await services.airflow.run(lambda: retraining.start(order, key, key_id), SAME_KEY)
    status = HTTPStatus.ACCEPTED if found == "new" else HTTPStatus.OK
    return json_answer(run, status, {"Location": f"/v1/retrain/{run.id}"})


@router.get(
    "/v1/retrain/{run_id}",
    **operation(
        "Follow a retrain",
        scope="retrain",
        answer=Retrain,
        description="The run and its tasks.",
        example=_RUNNING,
        parameters=[parameter("run_id", "path", "As 'id' in the answer that started it.")],
        refusals=(NotThere, AirflowAway, AirflowRefused),
    ),
)
async def follow(run_id: str, request: Request) -> Response:
    """The state of a run that was started here, and of its tasks."""
    services = services_of(request)
    retraining = Retraining(services.settings)
    return json_answer(await services.airflow.run(lambda: retraining.find(run_id)))


def _idempotency_key(headers: Headers) -> str:
    given = [value for name, value in headers if name == _KEY]
    text = given[0].decode("latin-1").strip() if len(given) == 1 else ""
    if not 0 < len(text) <= _KEY_LENGTH or not text.isprintable():
        raise HeaderRefused(
            f"One Idempotency-Key of 1 to {_KEY_LENGTH} characters that print is needed.",
            "Make a new one for each retrain, such as a UUID.",
            header="Idempotency-Key",
        )
    return text


def _order(headers: Headers, body: bytes) -> RetrainOrder:
    """Read what is asked for; an empty body asks for the default.

    Raises
    ------
    MediaTypeRefused, BodyUnreadable
    SchemaMismatch
        Where a field is unknown or of another type.
    """
    if not body:
        return RetrainOrder()
    require_json(headers)
    order = read_struct(body, RetrainOrder)
    if order.as_of is None:
        return order
    try:
        return msgspec.structs.replace(order, as_of=format_time(parse_time(order.as_of)))
    except (ConfigError, OverflowError):
        raise refusal([Defect("is no ISO 8601 date or time", column="as_of")]) from None
