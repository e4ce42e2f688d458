"""Predict one record, with an explanation where it is requested."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Request, Response

from bc_pipeline.errors import HeaderRefused, NoChampion, RecordsAway
from bc_pipeline.explanation.explainer import Explanation
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.pages import record_examples
from bc_pipeline.serving.prediction import Prediction, encode, predict_one
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.request_parsing.body_stream import read_body, require_json
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import services_of

router = APIRouter(route_class=ScopedRoute, tags=["predict"])
_ERRORS = (*docs.BODY_ERRORS, NoChampion, RecordsAway)
_PREDICT = docs.operation(
    "Classify one record",
    scope="predict",
    answer=Prediction,
    description="The call, and the version that made it.",
    example=record_examples.example_prediction,
    headers=docs.MODEL_HEADERS,
    parameters=[
        {
            "name": "explain",
            "in": "query",
            "description": "Whether to tell what each feature adds to the log-odds, "
            "as /v1/explain does.",
            "required": False,
            "schema": {"type": "boolean", "default": False},
        }
    ],
    body=record_examples.RECORD_BODY,
    errors=(*_ERRORS, HeaderRefused),
)
_EXPLAIN = docs.operation(
    "Classify one record and explain the call",
    scope="predict",
    answer=Prediction,
    description="The call, and what each feature adds to the log-odds of the positive label.",
    headers=docs.MODEL_HEADERS,
    body=record_examples.RECORD_BODY,
    errors=_ERRORS,
)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@router.post("/v1/predict", **_PREDICT)
@router.post("/predict", **_PREDICT | {"include_in_schema": False})
async def predict(request: Request) -> Response:
    """One record in; the call, its probability and the version that made it out."""
    return await _answer(request, "predict", with_explanation=_explanation_requested(request))


@router.post("/v1/explain", **_EXPLAIN)
async def explain(request: Request) -> Response:
    """Contributions and base add up to the log-odds of the probability that is answered.

    For a model that is linear in its log-odds they are exact; for others they are Shapley
    values, estimated by permutation, each with its standard error.
    """
    return await _answer(request, "explain", with_explanation=True)


async def _answer(request: Request, route: str, *, with_explanation: bool) -> Response:
    require_json(request.headers.raw)
    body = await read_body(request)
    services, context = services_of(request), context_of(request)
    model = services.loaded_model
    context.model = model.version
    sample = model.parser.read(body)
    explanation: Explanation | msgspec.UnsetType = msgspec.UNSET
    if with_explanation:
        # In a thread: it takes too long to keep other requests waiting.
        explanation = await asyncio.to_thread(lambda: model.explainer.explain(sample.values))
    prediction = predict_one(services, context, model, sample, route)
    prediction.explanation = explanation
    response = Response(encode(prediction), media_type=docs.JSON)
    response.raw_headers[:0] = model.headers
    return response


def _explanation_requested(request: Request) -> bool:
    """The value of ``?explain``.

    Raises
    ------
    HeaderRefused
    """
    values = request.query_params.getlist("explain") or ["false"]
    requested = _BOOLEANS.get(values[0].casefold()) if len(values) == 1 else None
    if requested is None:
        raise HeaderRefused("The parameter 'explain' is true or false.", header="explain")
    return requested
