"""Start retrain runs of the workflow in Airflow, and report their state."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from bc_pipeline.errors import AirflowAway, AirflowRefused, HeaderRefused, KeyReused, NotThere
from bc_pipeline.serving.headers import Headers
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.request_parsing.body_stream import read_body, require_json
from bc_pipeline.serving.request_parsing.strict_json import read_model
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.retraining import SAME_KEY, Retrain, Retraining, RetrainOrder
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import services_of

router = APIRouter(route_class=ScopedRoute, tags=["retrain"])
_KEY = b"idempotency-key"
_KEY_LENGTH = 128
_BODY_LIMIT = 4096
_RUN: dict[str, Any] = {
    "id": "01900000-0000-7000-8000-000000000000",
    "state": "queued",
    "queued_at": "2026-11-21T08:30:00Z",
    "started_at": None,
    "ended_at": None,
    "requested_by": "hospital-a (API key 5f0c2d1e)",
    "conclusion": None,
    "reason": None,
    "notes": [],
    "approval": None,
    "tasks": [],
}
_TASK = {
    "task": "ingest",
    "map_index": -1,
    "state": "running",
    "attempt": 1,
    "started_at": "2026-11-21T08:30:02Z",
    "ended_at": None,
}
_RUNNING = {"state": "running", "started_at": "2026-11-21T08:30:01Z", "tasks": [_TASK]}


def _example_queued(model: LoadedModel) -> dict[str, Any]:
    return {"id": _RUN["id"], "dag": f"{model.manifest.problem}_retrain"} | _RUN


def _example_running(model: LoadedModel) -> dict[str, Any]:
    return _example_queued(model) | _RUNNING


_START = docs.operation(
    "Start a retrain through Airflow",
    scope="retrain",
    answer=Retrain,
    status=HTTPStatus.ACCEPTED,
    description="The run was started; follow it at the address in 'Location'.",
    headers=("Location",),
    example=_example_queued,
    others={
        HTTPStatus.OK: docs.response(
            "This key started the run before; nothing new was started.",
            Retrain,
            headers=("Location",),
        )
    },
    parameters=[
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Made by the client, new for each retrain that it wants: the same key "
            "again finds the same run.",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": _KEY_LENGTH},
        }
    ],
    body=docs.request_body(
        {
            docs.JSON: docs.content(
                RetrainOrder, approval=docs.Example("A person decides", {"require_approval": True})
            )
        },
        "May be left out.",
        required=False,
    ),
    errors=(*docs.BODY_ERRORS, HeaderRefused, KeyReused, AirflowAway, AirflowRefused),
)


@router.post("/v1/retrain", **_START)
@router.post("/retrain", include_in_schema=False, **_START)
async def start(request: Request) -> Response:
    """Trigger the problem's retrain workflow: land, validate, train, evaluate, gate, promote.

    The gate decides whether the new model becomes the champion. When Airflow does not answer,
    nothing is lost: send the same key again.
    """
    headers = request.headers.raw
    key = _idempotency_key(headers)
    order = RetrainOrder()
    if body := await read_body(request, _BODY_LIMIT):
        require_json(headers)
        order = read_model(body, RetrainOrder)
    caller = context_of(request).caller
    services = services_of(request)
    retraining = Retraining(services.settings)
    run, state = await services.airflow.run(lambda: retraining.start(order, key, caller), SAME_KEY)
    status = HTTPStatus.ACCEPTED if state == "new" else HTTPStatus.OK
    location = f"{services.settings.root_path}/v1/retrain/{run.id}"
    return json_response(run, status, {"Location": location})


@router.get(
    "/v1/retrain/{run_id}",
    **docs.operation(
        "Follow a retrain",
        scope="retrain",
        answer=Retrain,
        description="The run and its tasks; once it has ended, how and why, and its approval.",
        example=_example_running,
        errors=(NotThere, AirflowAway, AirflowRefused),
    ),
)
async def follow(
    run_id: Annotated[str, Path(description="As 'id' in the answer that started it.")],
    request: Request,
) -> Response:
    """The state of a run that was started here, and of its tasks."""
    services = services_of(request)
    retraining = Retraining(services.settings)
    return json_response(await services.airflow.run(lambda: retraining.find(run_id)))


def _idempotency_key(headers: Headers) -> str:
    """The key of a request.

    Raises
    ------
    HeaderRefused
        Where it is missing, repeated, too long or not printable.
    """
    values = [value for name, value in headers if name == _KEY]
    key = values[0].decode("latin-1").strip() if len(values) == 1 else ""
    if not 0 < len(key) <= _KEY_LENGTH or not key.isprintable():
        raise HeaderRefused(
            f"Send one Idempotency-Key of 1 to {_KEY_LENGTH} printable characters.",
            "Make a new one for each retrain, such as a UUID.",
            header="Idempotency-Key",
        )
    return key
