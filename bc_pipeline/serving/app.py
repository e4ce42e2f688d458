"""The FastAPI application: its addresses, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from bc_pipeline import __version__, clock
from bc_pipeline.errors import (
    BodyTooLarge,
    DegenerateModel,
    MediaTypeRefused,
    NoChampion,
    PipelineError,
)
from bc_pipeline.serving import documentation, problem_details
from bc_pipeline.serving.access import AccessLog
from bc_pipeline.serving.auth import ApiKey
from bc_pipeline.serving.body import Sample
from bc_pipeline.serving.docs_page import page
from bc_pipeline.serving.folder import PinnedModel
from bc_pipeline.serving.live import Live, LiveModel
from bc_pipeline.settings import Settings

BODY_LIMIT = 1024 * 1024
router = APIRouter()


def create_app(settings: Settings, pinned: Live | None = None) -> FastAPI:
    """Build the service.

    Parameters
    ----------
    pinned : Live or None
        A model to serve whatever the registry says; None follows the registry.

    Raises
    ------
    ConfigError
        Where the API key's file is missing or unusable.
    """
    model = LiveModel(settings) if pinned is None else PinnedModel(pinned)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(model.refresh)
        watcher = asyncio.create_task(model.watch())
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    app = FastAPI(
        title=documentation.TITLE,
        version=__version__,
        description=documentation.DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.model = model
    app.state.api_key = ApiKey.read(settings.api_key)
    app.include_router(router)
    app.add_exception_handler(PipelineError, problem_details.handle_pipeline_error)
    app.add_exception_handler(HTTPException, problem_details.handle_http_error)
    app.add_middleware(AccessLog, paths=frozenset(documentation.PATHS))
    return app


@router.post("/predict", **documentation.PREDICT)
async def predict(request: Request) -> Response:
    """Classify one record."""
    headers = request.headers
    request.app.state.api_key.check(headers.get("x-api-key"), headers.get("authorization"))
    live = _live(request)
    request.state.model_version = live.version
    _require_json(headers.get("content-type"))
    sample = live.reader.read(await _body(request))
    return _json(answer(live, sample))


@router.get("/health", **documentation.HEALTH)
async def health(request: Request) -> Response:
    """Whether a verified model answers, and which."""
    model = _model(request)
    refused = model.last_refusal
    facts: dict[str, Any] = {
        "checked_at": clock.format_time(model.checked_at) if model.checked_at else None,
        "refused": {
            "count": model.refusals,
            "last": {
                "version": refused.version,
                "code": refused.code,
                "reason": refused.reason,
                "at": clock.format_time(refused.at),
            }
            if refused
            else None,
        },
    }
    live = model.current
    if live is None:
        return problem_details.from_error(_no_champion(), **facts)
    return _json(
        {
            "status": "ok",
            "problem": live.manifest.problem,
            "model_version": live.version,
            "manifest_sha256": live.manifest_sha256,
            "source": live.source,
            "generation": live.generation,
            "loaded_at": clock.format_time(live.loaded_at),
        }
        | facts
    )


@router.get("/", **documentation.ROOT)
async def root() -> Response:
    """What this service is and where to go on."""
    return _json(
        {
            "service": documentation.TITLE,
            "notice": documentation.NOTICE,
            "links": {
                "predict": "/predict",
                "health": "/health",
                "docs": "/docs",
                "openapi": "/openapi.json",
            },
        }
    )


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The OpenAPI document, with the features and an example of the live model."""
    return _json(documentation.openapi(request.app, _model(request).current))


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The same for people; it needs no other host."""
    document = documentation.openapi(request.app, _model(request).current)
    return HTMLResponse(
        page(document),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


def answer(live: Live, sample: Sample) -> dict[str, Any]:
    """Predict one sample; the keys and their order are the API's contract.

    Raises
    ------
    DegenerateModel
        Where the model gives no probability.
    """
    positive = float(live.predictor.positive(np.array([sample.values]))[0])
    if not 0 <= positive <= 1:
        raise DegenerateModel(
            f"{live.version} did not answer with a probability.",
            candidate=live.manifest.recipe.candidate,
        )
    labels, threshold = live.labels, live.manifest.threshold
    called = positive > threshold
    probabilities = {labels.positive.name: positive, labels.negative.name: 1.0 - positive}
    content = {
        "prediction": labels.code(called),
        "label": labels.name(called),
        "probability": probabilities[labels.name(called)],
        "probabilities": probabilities,
        "threshold": threshold,
        "model_version": live.version,
    }
    return content if sample.id is None else content | {"id": sample.id}


def _model(request: Request) -> LiveModel | PinnedModel:
    model: LiveModel | PinnedModel = request.app.state.model
    return model


def _no_champion() -> NoChampion:
    return NoChampion("No verified model is live.", "The service takes one once it is promoted.")


def _live(request: Request) -> Live:
    """The one reference that a request answers from."""
    live = _model(request).current
    if live is None:
        raise _no_champion()
    return live


def _json(content: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(content), HTTPStatus.OK, media_type="application/json")


def _require_json(content_type: str | None) -> None:
    media_type, _, parameters = (content_type or "").partition(";")
    charset = parameters.strip().casefold().removeprefix("charset=").strip('"')
    if media_type.strip().casefold() != "application/json" or charset not in ("", "utf-8"):
        raise MediaTypeRefused("Send the record as 'Content-Type: application/json', in UTF-8.")


async def _body(request: Request) -> bytes:
    """The body, of which never more than the limit is kept."""
    too_large = BodyTooLarge(f"The body may hold {BODY_LIMIT} bytes.", limit=BODY_LIMIT)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > BODY_LIMIT:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise too_large
    return bytes(body)
