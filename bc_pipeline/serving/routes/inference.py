"""The Open Inference Protocol V2, as KServe, Triton and their clients speak it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from bc_pipeline.errors import HeaderRefused, MediaTypeRefused, NoChampion, NotThere, RecordsAway
from bc_pipeline.names import MAX_ID_LENGTH
from bc_pipeline.serving.headers import first_header
from bc_pipeline.serving.inference_answer import (
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
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.prediction import predict_rows
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.request_parsing.body_stream import (
    media_type,
    parse_stored,
    require_uncompressed,
    stored_body,
)
from bc_pipeline.serving.request_parsing.inference_request import (
    DATATYPES,
    INPUT,
    LENGTH_HEADER,
    read_request,
)
from bc_pipeline.serving.request_parsing.rows import ROW_LIMIT
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import require_ready, services_of

router = APIRouter(route_class=ScopedRoute, tags=["open inference protocol"])
# Clients that add tensors as bytes declare either type, or none.
_TYPES = ("", JSON, BINARY)
_HIDDEN = {"include_in_schema": False}
_LENGTH = LENGTH_HEADER.lower().encode()
ModelName = Annotated[str, Path(description="Name of the problem, as GET /v1/model says it.")]


def _loaded_model(request: Request, name: str) -> LoadedModel:
    """The loaded model, where the path names it, and its version where it names one.

    Raises
    ------
    NotThere, NoChampion
    """
    services = services_of(request)
    known = services.settings.service_problem
    if name != known:
        raise NotThere("There is no model of this name.", f"The one that there is: {known}.")
    model = services.loaded_model
    if request.path_params.get("version", model.version) != model.version:
        raise NotThere("This version is not live.", f"The one that answers: {model.version}.")
    return model


@router.get(
    "/v2",
    **docs.operation("What this server is, and what it can", scope="read", answer=ServerMetadata),
)
async def server() -> Response:
    return json_response(ServerMetadata())


@router.get(
    "/v2/health/live",
    **docs.operation("Whether the process answers", scope="public", answer=ServerLive),
)
async def live() -> Response:
    return json_response(ServerLive())


@router.get(
    "/v2/health/ready",
    **docs.operation(
        "Whether predictions can be answered",
        scope="public",
        answer=ServerReady,
        errors=(NoChampion, RecordsAway),
    ),
)
async def ready(request: Request) -> Response:
    """The same as /readyz: a verified model, and a log to record answers in."""
    require_ready(request)
    return json_response(ServerReady())


_MODEL = docs.operation(
    "The tensors that the live model takes and gives",
    scope="read",
    answer=ModelMetadata,
    errors=(NotThere, NoChampion),
)


@router.get("/v2/models/{name}/versions/{version}", **_MODEL | _HIDDEN)
@router.get("/v2/models/{name}", **_MODEL)
async def model(request: Request, name: ModelName) -> Response:
    """Below /versions/{version} the same, where that version is live; 404 where it is not."""
    return json_response(metadata(_loaded_model(request, name)))


_READY = docs.operation(
    "Whether the model answers",
    scope="public",
    answer=ModelReady,
    errors=(NotThere, NoChampion, RecordsAway),
)


@router.get("/v2/models/{name}/versions/{version}/ready", **_READY | _HIDDEN)
@router.get("/v2/models/{name}/ready", **_READY)
async def model_ready(request: Request, name: ModelName) -> Response:
    """Below /versions/{version} the same, where that version is live; 404 where it is not."""
    _loaded_model(request, name)
    services_of(request).require_writable_log()
    return json_response(ModelReady(name))


def _example(model: LoadedModel) -> dict[str, Any]:
    return {
        "id": "request-1",
        "inputs": [
            {
                "name": INPUT,
                "datatype": "FP64",
                "shape": [1, len(model.example)],
                "data": list(model.example),
            }
        ],
        "outputs": [{"name": "probability"}, {"name": "label"}],
    }


_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH},
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
_INFER = docs.operation(
    "Classify the rows of a tensor",
    scope="predict",
    answer=InferenceAnswer,
    contents={BINARY: docs.content(docs.BYTES)},
    headers=docs.MODEL_HEADERS,
    parameters=(
        {
            "name": LENGTH_HEADER,
            "in": "header",
            "description": "Size of the JSON that the body begins with, where bytes of a "
            "tensor follow.",
            "required": False,
            "schema": {"type": "integer", "minimum": 1},
        },
    ),
    body=docs.request_body(
        {
            JSON: docs.content(
                _REQUEST,
                record=docs.Example("One record", _example),
                empty=docs.Example("No tensor", {"inputs": []}, status=422),
            ),
            BINARY: docs.content(docs.BYTES),
        },
        f"At most {ROW_LIMIT} rows.",
    ),
    errors=(*docs.BODY_ERRORS, HeaderRefused, NotThere, NoChampion, RecordsAway),
)


@router.post("/v2/models/{name}/versions/{version}/infer", **_INFER | _HIDDEN)
@router.post("/v2/models/{name}/infer", **_INFER)
async def infer(request: Request, name: ModelName) -> Response:
    """Every row is answered and recorded, or none.

    One tensor of shape [rows, features]; FP32 values are used at that precision. The answers:
    'probability' of the positive label, the 'label' that is called, 'prediction' (its code),
    and 'prediction_id'.
    """
    services, context = services_of(request), context_of(request)
    headers = request.headers.raw
    require_uncompressed(headers)
    if media_type(headers) not in _TYPES:
        raise MediaTypeRefused(f"Send the body as {JSON} or {BINARY}.")
    model = _loaded_model(request, name)
    limit = services.settings.upload_limit
    schema, length = model.schema, first_header(headers, _LENGTH)
    async with stored_body(request, limit) as stored:
        parsed = await parse_stored(
            stored,
            lambda body: read_request(body, length, schema),
            model.tables.inference if length is None else None,
        )
    answers = await predict_rows(services, context, model, parsed.samples, "infer")
    body, described = encode(model, parsed, answers)
    response = Response(body, headers=described)
    response.raw_headers += model.headers
    return response
