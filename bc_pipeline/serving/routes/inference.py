"""The Open Inference Protocol V2, as KServe, Triton and their clients speak it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import (
    BodyTooLarge,
    BodyUnreadable,
    HeaderRefused,
    MediaTypeRefused,
    NoChampion,
    NotThere,
    RecordsAway,
    SchemaMismatch,
)
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.bodies.reading import media_type, require_plain, stored_body
from bc_pipeline.serving.exchange import (
    exchange_of,
    first_header,
    headers_of,
    plain,
    services_of,
)
from bc_pipeline.serving.inference.answer import (
    BINARY,
    JSON,
    InferenceAnswer,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    encode,
    metadata,
)
from bc_pipeline.serving.inference.predict_rows import predict_rows, read_aside
from bc_pipeline.serving.inference.request import DATATYPES, INPUT, LENGTH_HEADER, read_request
from bc_pipeline.serving.inference.rows import ROW_LIMIT
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.pages.documentation import (
    MODEL_HEADERS,
    Example,
    content,
    operation,
    parameter,
    request_body,
)
from bc_pipeline.serving.services import Services

router = APIRouter(route_class=ScopedRoute, tags=["open inference protocol"])
_MIB = 1024 * 1024
# Clients that add tensors as bytes declare either type, or none.
_TYPES = ("", JSON, BINARY)
_HIDDEN = {"include_in_schema": False}
_NAME = parameter("name", "path", "Name of the problem.", example="wdbc")
_LENGTH = LENGTH_HEADER.lower().encode()


def _model(services: Services, name: str, version: str | None) -> Live:
    """The live model, where that is the one that is asked for.

    Raises
    ------
    NotThere, NoChampion
    """
    known = services.settings.service_problem
    if name != known:
        raise NotThere("There is no model of this name.", f"The one that there is: {known}.")
    live = services.live
    if version not in (None, live.version):
        raise NotThere("This version is not live.", f"The one that answers: {live.version}.")
    return live


@router.get(
    "/v2",
    **operation("What this server is, and what it can", scope="read", answer=ServerMetadata),
)
async def server() -> Response:
    return json_answer(ServerMetadata())


@router.get(
    "/v2/health/live",
    **operation("Whether the process answers", scope="public", answer=ServerLive),
)
async def live() -> Response:
    return json_answer(ServerLive())


@router.get(
    "/v2/health/ready",
    **operation(
        "Whether predictions can be answered",
        scope="public",
        answer=ServerReady,
        refusals=(NoChampion, RecordsAway),
    ),
)
async def ready(request: Request) -> Response:
    """The same as /readyz: a verified model, and a log to record answers in."""
    services = services_of(request)
    services.require_log()
    exchange_of(request).model = services.live.version
    return json_answer(ServerReady())


_MODEL = operation(
    "The tensors that the live model takes and gives",
    scope="read",
    answer=ModelMetadata,
    parameters=(_NAME,),
    refusals=(NotThere, NoChampion),
)


@router.get("/v2/models/{name}/versions/{version}", **_MODEL | _HIDDEN)
@router.get("/v2/models/{name}", **_MODEL)
async def model(request: Request, name: str, version: str | None = None) -> Response:
    """Below /versions/{version} the same, where that version is live; 404 where it is not."""
    return json_answer(metadata(_model(services_of(request), name, version)))


_READY = operation(
    "Whether the model answers",
    scope="public",
    answer=ModelReady,
    parameters=(_NAME,),
    refusals=(NotThere, NoChampion, RecordsAway),
)


@router.get("/v2/models/{name}/versions/{version}/ready", **_READY | _HIDDEN)
@router.get("/v2/models/{name}/ready", **_READY)
async def model_ready(request: Request, name: str, version: str | None = None) -> Response:
    """Below /versions/{version} the same, where that version is live; 404 where it is not."""
    services = services_of(request)
    _model(services, name, version)
    services.require_log()
    return json_answer(ModelReady(name))


def _example(live: Live) -> dict[str, Any]:
    return {
        "id": "request-1",
        "inputs": [
            {
                "name": INPUT,
                "datatype": "FP64",
                "shape": [1, len(live.example)],
                "data": list(live.example),
            }
        ],
        "outputs": [{"name": "probability"}, {"name": "label"}],
    }


_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 128},
        "parameters": {"type": "object"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"const": INPUT},
                    "datatype": {"enum": list(DATATYPES)},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "data": {"type": "array"},
                    "parameters": {"type": "object"},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}
_INFER = operation(
    "Classify the rows of a tensor",
    scope="predict",
    answer=InferenceAnswer,
    contents={BINARY: content({"type": "string", "format": "binary"})},
    headers=MODEL_HEADERS,
    parameters=(
        _NAME,
        parameter(
            LENGTH_HEADER,
            "header",
            "Size of the JSON that the body begins with, where bytes of a tensor follow.",
            schema={"type": "integer", "minimum": 1},
        ),
    ),
    body=request_body(
        {
            JSON: content(
                _REQUEST,
                record=Example("One record", _example),
                empty=Example("No tensor", {"inputs": []}, status=422),
            ),
            BINARY: content({"type": "string", "format": "binary"}),
        },
        f"At most {ROW_LIMIT} rows.",
    ),
    refusals=(
        BodyUnreadable,
        BodyTooLarge,
        MediaTypeRefused,
        HeaderRefused,
        SchemaMismatch,
        NotThere,
        NoChampion,
        RecordsAway,
    ),
)


@router.post("/v2/models/{name}/versions/{version}/infer", **_INFER | _HIDDEN)
@router.post("/v2/models/{name}/infer", **_INFER)
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Every row is answered and recorded, or none.

    One tensor of shape [rows, features]; FP32 is taken as what it holds. The answers:
    'probability' of the positive label, the 'label' that is called, 'prediction' (its code),
    and 'prediction_id'.
    """
    services, exchange = services_of(request), exchange_of(request)
    headers = headers_of(request.scope)
    require_plain(headers)
    if media_type(headers) not in _TYPES:
        raise MediaTypeRefused(f"Send the body as {JSON} or {BINARY}.")
    found = _model(services, name, version)
    limit = services.settings.upload_limit_mb * _MIB
    schema = found.manifest.feature_schema
    length = first_header(headers, _LENGTH)
    async with stored_body(request.receive, headers, limit) as stored:
        asked = await read_aside(stored, lambda body: read_request(body, length, schema))
    answers = await predict_rows(services, exchange, found, asked.samples, "infer")
    text, described = encode(found, asked, answers)
    described |= {plain(key): plain(value) for key, value in found.headers}
    return Response(text, headers=described)
