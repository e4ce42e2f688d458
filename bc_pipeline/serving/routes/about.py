"""What the service says about itself."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from bc_pipeline.serving import documentation
from bc_pipeline.serving.admission import ScopedRoute, needs
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.docs_page import page
from bc_pipeline.serving.documentation import operation
from bc_pipeline.serving.exchange import services_of
from bc_pipeline.serving.openapi_document import openapi as openapi_document

router = APIRouter(route_class=ScopedRoute, tags=["about"])
_HIDDEN = {"openapi_extra": needs("public"), "include_in_schema": False}


@router.get("/", **operation("What this service is, and links", scope="public"))
async def root() -> Response:
    return json_answer(
        {
            "service": documentation.TITLE,
            "notice": documentation.NOTICE,
            "links": {
                "predict": "/v1/predict",
                "health": "/health",
                "docs": "/docs",
                "openapi": "/openapi.json",
            },
        }
    )


@router.get("/openapi.json", **_HIDDEN)
async def openapi(request: Request) -> Response:
    """The OpenAPI document, with the features and an example of the live model."""
    return json_answer(openapi_document(request.app, services_of(request).model.current))


@router.get("/docs", **_HIDDEN)
async def docs(request: Request) -> Response:
    """The same for people; it needs no other host."""
    document = openapi_document(request.app, services_of(request).model.current)
    return HTMLResponse(
        page(document),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )
