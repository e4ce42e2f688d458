"""MLflow's scoring protocol, for what was written against ``mlflow models serve``."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from bc_pipeline import __version__
from bc_pipeline.errors import (
    BodyTooLarge,
    BodyUnreadable,
    MediaTypeRefused,
    NoChampion,
    RecordsAway,
    RequestRefused,
    SchemaMismatch,
)
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.bodies.reading import media_type, require_json, require_plain, stored_body
from bc_pipeline.serving.exchange import exchange_of, headers_of, plain, services_of
from bc_pipeline.serving.inference.frames import FORMATS, read_csv, read_table
from bc_pipeline.serving.inference.predict_rows import predict_rows, read_aside
from bc_pipeline.serving.inference.rows import ROW_LIMIT
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.pages.documentation import (
    CSV,
    JSON,
    MODEL_HEADERS,
    Example,
    content,
    operation,
    request_body,
)

router = APIRouter(route_class=ScopedRoute, tags=["mlflow"])
_MIB = 1024 * 1024


class Scores(msgspec.Struct):
    """What the model as logged in MLflow predicts: a pair of probabilities for every row.

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


def _split(live: Live) -> dict[str, Any]:
    names = list(live.manifest.feature_schema.names)
    return {"dataframe_split": {"columns": names, "data": [list(live.example)]}}


def _records(live: Live) -> dict[str, Any]:
    names = live.manifest.feature_schema.names
    return {"dataframe_records": [dict(zip(names, live.example, strict=True))]}


def _csv(live: Live) -> str:
    return "\n".join(
        [",".join(live.manifest.feature_schema.names), ",".join(map(repr, live.example)), ""]
    )


@router.post(
    "/invocations",
    **operation(
        "Score a table, as 'mlflow models serve' does",
        scope="predict",
        answer=Scores,
        headers=MODEL_HEADERS,
        body=request_body(
            {
                JSON: content(
                    {"type": "object", "properties": {form: {} for form in FORMATS}},
                    split=Example("Columns and rows", _split),
                    records=Example("Records", _records),
                    nothing=Example("No table", {}, status=400),
                ),
                CSV: content({"type": "string"}, table=Example("A header and rows", _csv)),
            },
            f"At most {ROW_LIMIT} rows.",
        ),
        refusals=(
            RequestRefused,
            BodyUnreadable,
            BodyTooLarge,
            MediaTypeRefused,
            SchemaMismatch,
            NoChampion,
            RecordsAway,
        ),
    ),
)
async def invocations(request: Request) -> Response:
    """Exactly one of dataframe_split, dataframe_records, inputs and instances, or CSV.

    Every row is answered and recorded, or none.
    """
    services, exchange = services_of(request), exchange_of(request)
    headers = headers_of(request.scope)
    is_csv = media_type(headers) == CSV
    if is_csv:
        _require_utf8(request.headers["content-type"])
        require_plain(headers)
    else:
        require_json(headers)
    live = services.live
    limit, schema = services.settings.upload_limit_mb * _MIB, live.manifest.feature_schema
    read = read_csv if is_csv else read_table
    async with stored_body(request.receive, headers, limit) as stored:
        samples = await read_aside(stored, lambda body: read(body, schema))
    answers = await predict_rows(services, exchange, live, samples, "invocations")
    positive, negative = live.labels.positive.name, live.labels.negative.name
    chances = [answer.probabilities for answer in answers]
    return json_answer(
        Scores(
            [(chance[negative], chance[positive]) for chance in chances],
            [answer.prediction_id for answer in answers],
        ),
        headers={plain(key): plain(value) for key, value in live.headers},
    )


def _require_utf8(declared: str) -> None:
    for given in declared.lower().split(";")[1:]:
        if given.replace(" ", "").replace('"', "") not in ("", "charset=utf-8"):
            raise MediaTypeRefused("Send the body as 'Content-Type: text/csv', in UTF-8.")


@router.get(
    "/ping",
    **operation(
        "Whether predictions can be answered",
        scope="public",
        answer=Pong,
        refusals=(NoChampion, RecordsAway),
    ),
)
async def ping(request: Request) -> Response:
    """The same as /readyz."""
    services = services_of(request)
    services.require_log()
    exchange_of(request).model = services.live.version
    return json_answer(Pong())


@router.get(
    "/version",
    **operation(
        "Version of this service",
        scope="public",
        contents={"text/plain": content({"type": "string"})},
    ),
)
async def version() -> Response:
    """Where MLflow gives its own version."""
    return PlainTextResponse(__version__)
