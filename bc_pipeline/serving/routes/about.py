"""What the service says about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from bc_pipeline.serving.admission import ScopedRoute, needs
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.exchange import services_of
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.pages import docs_page, problems_page, text_page
from bc_pipeline.serving.pages.documentation import JSON, NOTICE, TITLE, operation
from bc_pipeline.serving.pages.openapi_document import openapi as openapi_document

router = APIRouter(route_class=ScopedRoute, tags=["about"])
_HIDDEN: dict[str, Any] = {"openapi_extra": needs("public"), "include_in_schema": False}
_KEEP = "public, max-age=31536000, immutable"
_ROOT = {
    "service": TITLE,
    "notice": NOTICE,
    "links": {
        "predict": "/v1/predict",
        "model": "/v1/model",
        "health": "/health",
        "docs": "/docs",
        "redoc": "/redoc",
        "problems": "/problems",
        "openapi": "/openapi.json",
    },
}
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}


@router.get(
    "/",
    **operation(
        "What this service is, and links",
        scope="public",
        answer={
            "type": "object",
            "required": ["service", "notice", "links"],
            "properties": {
                "service": {"type": "string"},
                "notice": {"type": "string"},
                "links": _WORDS,
            },
        },
        example=_ROOT,
    ),
)
async def root() -> Response:
    """Where everything else is."""
    return json_answer(_ROOT)


@router.get("/openapi.json", **_HIDDEN)
async def openapi(request: Request) -> Response:
    """The OpenAPI document, with the features and an example of the live model."""
    live = services_of(request).model.current
    # Building takes a while, and anybody may ask: once per model is enough.
    kept: tuple[Live | None, bytes] | None = getattr(request.app.state, "document", None)
    if kept is None or kept[0] is not live:
        document = await asyncio.to_thread(openapi_document, request.app, live)
        kept = request.app.state.document = live, msgspec.json.encode(document)
    return Response(kept[1], media_type=JSON)


@router.get("/docs", **_HIDDEN)
async def docs() -> Response:
    """The document in Swagger UI, to try the operations."""
    return await _html(docs_page.swagger_page, docs_page.SWAGGER_POLICY)


@router.get("/redoc", **_HIDDEN)
async def redoc() -> Response:
    """The document in ReDoc, to read."""
    return await _html(docs_page.redoc_page, docs_page.REDOC_POLICY)


@router.get("/problems", **_HIDDEN)
async def problems() -> Response:
    """Where the types of all problems lead."""
    return await _html(problems_page.page, text_page.POLICY)


@router.get("/docs/assets/{name}", **_HIDDEN)
async def assets(name: str, request: Request) -> Response:
    """A file of the documentation pages."""
    found = await asyncio.to_thread(docs_page.asset, name)
    headers = {"Cache-Control": _KEEP, "ETag": f'"{found.digest}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.data, headers=headers, media_type=found.media_type)


async def _html(make: Callable[[], str], policy: str) -> Response:
    page = await asyncio.to_thread(make)
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})
