"""MLflow's scoring protocol, for clients of ``mlflow models serve``."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from bc_pipeline import __version__
from bc_pipeline.errors import MediaTypeRefused, NoChampion, RecordsAway, RequestRefused
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.pages import record_examples
from bc_pipeline.serving.prediction import predict_rows
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.request_parsing.body_stream import (
    CSV_TYPES,
    media_type,
    parse_stored,
    require_json,
    require_uncompressed,
    stored_body,
)
from bc_pipeline.serving.request_parsing.mlflow_request import FORMATS, read_csv, read_table
from bc_pipeline.serving.request_parsing.rows import ROW_LIMIT
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import require_ready, services_of

router = APIRouter(route_class=ScopedRoute, tags=["mlflow"])


class Scores(msgspec.Struct):
    """Predictions as the model that is logged in MLflow makes them: two probabilities per row.

    Attributes
    ----------
    predictions : list of (float, float)
        Probabilities of the negative and of the positive label.
    prediction_ids : list of str
        What the answers are recorded under; MLflow has no such member.
    """

    predictions: list[tuple[float, float]]
    prediction_ids: list[str]


class Pong(msgspec.Struct):
    status: str = "ok"


def _split(model: LoadedModel) -> dict[str, Any]:
    names = list(model.schema.names)
    return {"dataframe_split": {"columns": names, "data": [list(model.example)]}}


def _records(model: LoadedModel) -> dict[str, Any]:
    return {"dataframe_records": [record_examples.named_record(model)]}


def _csv(model: LoadedModel) -> str:
    names = model.schema.names
    return f"{','.join(names)}\n{','.join(map(repr, model.example))}\n"


@router.post(
    "/invocations",
    **docs.operation(
        "Score a table, as 'mlflow models serve' does",
        scope="predict",
        answer=Scores,
        headers=docs.MODEL_HEADERS,
        body=docs.request_body(
            {
                docs.JSON: docs.content(
                    {"type": "object", "properties": {form: {} for form in FORMATS}},
                    split=docs.Example("Columns and rows", _split),
                    records=docs.Example("Records", _records),
                    nothing=docs.Example("No table", {}, status=400),
                ),
                docs.CSV: docs.content(docs.TEXT, table=docs.Example("A header and rows", _csv)),
            },
            f"At most {ROW_LIMIT} rows.",
        ),
        errors=(RequestRefused, *docs.BODY_ERRORS, NoChampion, RecordsAway),
    ),
)
async def invocations(request: Request) -> Response:
    """Exactly one of dataframe_split, dataframe_records, inputs and instances, or CSV.

    Every row is answered and recorded, or none.
    """
    services, context = services_of(request), context_of(request)
    headers = request.headers.raw
    is_csv = media_type(headers) in CSV_TYPES
    if is_csv:
        _require_utf8(request.headers["content-type"])
        require_uncompressed(headers)
    else:
        require_json(headers)
    model = services.loaded_model
    limit, schema = services.settings.upload_limit, model.schema
    read, read_fast = (read_csv, None) if is_csv else (read_table, model.tables.mlflow)
    async with stored_body(request, limit) as stored:
        samples = await parse_stored(stored, lambda body: read(body, schema), read_fast)
    answers = await predict_rows(services, context, model, samples, "invocations")
    positive, negative = model.labels.positive.name, model.labels.negative.name
    probabilities = [answer.probabilities for answer in answers]
    scores = Scores(
        [(row[negative], row[positive]) for row in probabilities],
        [answer.prediction_id for answer in answers],
    )
    response = json_response(scores)
    response.raw_headers += model.headers
    return response


def _require_utf8(declared: str) -> None:
    for parameter in declared.lower().split(";")[1:]:
        if parameter.replace(" ", "").replace('"', "") not in ("", "charset=utf-8"):
            raise MediaTypeRefused("Send the body as 'Content-Type: text/csv', in UTF-8.")


@router.get(
    "/ping",
    **docs.operation(
        "Whether predictions can be answered",
        scope="public",
        answer=Pong,
        errors=(NoChampion, RecordsAway),
    ),
)
async def ping(request: Request) -> Response:
    """The same as /readyz."""
    require_ready(request)
    return json_response(Pong())


@router.get(
    "/version",
    **docs.operation(
        "Version of this service",
        scope="public",
        contents={"text/plain": docs.content(docs.TEXT)},
    ),
)
async def version() -> Response:
    """MLflow reports its own version here."""
    return PlainTextResponse(__version__)
