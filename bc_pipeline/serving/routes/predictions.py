"""Predict: one record."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import (
    BodyTooLarge,
    BodyUnreadable,
    MediaTypeRefused,
    NoChampion,
    RecordsAway,
    SchemaMismatch,
)
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.documentation import RECORD_BODY, operation
from bc_pipeline.serving.exchange import exchange_of, headers_of, services_of
from bc_pipeline.serving.predict import Prediction, predict_body
from bc_pipeline.serving.reading import read_body, require_json

router = APIRouter(route_class=ScopedRoute, tags=["predict"])
_PREDICT = operation(
    "Classify one record",
    scope="predict",
    answer=Prediction,
    body=RECORD_BODY,
    refusals=(
        BodyUnreadable,
        BodyTooLarge,
        MediaTypeRefused,
        SchemaMismatch,
        NoChampion,
        RecordsAway,
    ),
)


@router.post("/v1/predict", **_PREDICT)
@router.post("/predict", **_PREDICT | {"include_in_schema": False})
async def predict(request: Request) -> Response:
    """One record in; the call, its probability and the version that made it out."""
    headers = headers_of(request.scope)
    require_json(headers)
    body = await read_body(request.receive, headers)
    reply = predict_body(services_of(request), exchange_of(request), body)
    response = Response(reply.body, media_type="application/json")
    response.raw_headers[:0] = reply.headers
    return response
