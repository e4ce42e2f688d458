"""Predict one record, with an explanation where it is asked for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import (
    BodyTooLarge,
    BodyUnreadable,
    HeaderRefused,
    MediaTypeRefused,
    NoChampion,
    RecordsAway,
    SchemaMismatch,
)
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.bodies.reading import read_body, require_json
from bc_pipeline.serving.exchange import exchange_of, headers_of, services_of
from bc_pipeline.serving.pages.documentation import (
    MODEL_HEADERS,
    RECORD_BODY,
    called_record,
    operation,
    parameter,
)
from bc_pipeline.serving.predict import Prediction, Reply, explain_body, predict_body

router = APIRouter(route_class=ScopedRoute, tags=["predict"])
_REFUSALS = (
    BodyUnreadable,
    BodyTooLarge,
    MediaTypeRefused,
    SchemaMismatch,
    NoChampion,
    RecordsAway,
)
_PREDICT = operation(
    "Classify one record",
    scope="predict",
    answer=Prediction,
    description="The call, and the version that made it.",
    example=called_record,
    headers=MODEL_HEADERS,
    parameters=[
        parameter(
            "explain",
            "query",
            "Whether to tell what each feature adds to the log-odds, as /v1/explain does.",
            schema={"type": "boolean", "default": False},
        )
    ],
    body=RECORD_BODY,
    refusals=_REFUSALS,
)
_EXPLAIN = operation(
    "Classify one record and explain the call",
    scope="predict",
    answer=Prediction,
    description="The call, and what each feature adds to the log-odds of the positive label.",
    headers=MODEL_HEADERS,
    body=RECORD_BODY,
    refusals=_REFUSALS,
)
_WORDS = {"true": True, "1": True, "false": False, "0": False}


@router.post("/v1/predict", **_PREDICT)
@router.post("/predict", **_PREDICT | {"include_in_schema": False})
async def predict(request: Request) -> Response:
    """One record in; the call, its probability and the version that made it out."""
    wanted = _asked(request)
    body = await _body(request)
    services, exchange = services_of(request), exchange_of(request)
    if wanted:
        return _response(await explain_body(services, exchange, body, "predict"))
    return _response(predict_body(services, exchange, body))


@router.post("/v1/explain", **_EXPLAIN)
async def explain(request: Request) -> Response:
    """Contributions and base add up to the log-odds of the probability that is answered.

    For a model that is linear in its log-odds they are exact; for others they are Shapley
    values, estimated by permutation, each with its standard error.
    """
    body = await _body(request)
    return _response(
        await explain_body(services_of(request), exchange_of(request), body, "explain")
    )


async def _body(request: Request) -> bytes:
    headers = headers_of(request.scope)
    require_json(headers)
    return await read_body(request.receive, headers)


def _response(reply: Reply) -> Response:
    response = Response(reply.body, media_type="application/json")
    response.raw_headers[:0] = reply.headers
    return response


def _asked(request: Request) -> bool:
    """Whether ``?explain`` is set.

    Raises
    ------
    HeaderRefused
    """
    given = request.query_params.getlist("explain")
    if not given:
        return False
    known = _WORDS.get(given[0].casefold()) if len(given) == 1 else None
    if known is None:
        raise HeaderRefused(
            "The parameter 'explain' is true or false.",
            header="explain",
        )
    return known
