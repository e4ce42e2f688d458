"""The root document, the OpenAPI document, and the documentation pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.content_negotiation import negotiate
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.model.model_info import NOTICE
from bc_pipeline.serving.pages import docs_page, text_pages
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.pages.openapi_document import openapi as openapi_document
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute, needs
from bc_pipeline.serving.services import services_of

router = APIRouter(route_class=ScopedRoute, tags=["about"])
_HIDDEN: dict[str, Any] = {"openapi_extra": needs("public"), "include_in_schema": False}
_HTML = "text/html"
# Links of the page, relative because a proxy may strip a prefix.
_PAGES = {
    "Operations, to try (Swagger UI)": "docs",
    "Operations, to read (ReDoc)": "redoc",
    "OpenAPI document": "openapi.json",
    "Errors": "problems",
    "Health": "health",
    "Metrics (with a key of the scope 'read')": "metrics",
}
_CACHE_FOR_EVER = "public, max-age=31536000, immutable"


class Root(ApiModel):
    """The service, and the paths of its main operations."""

    service: str
    notice: str
    links: dict[str, str]


_ROOT = Root(
    service=docs.TITLE,
    notice=NOTICE,
    links={
        "predict": "/v1/predict",
        "model": "/v1/model",
        "health": "/health",
        "docs": "/docs",
        "redoc": "/redoc",
        "problems": "/problems",
        "openapi": "/openapi.json",
    },
)


@router.get(
    "/",
    **docs.operation(
        "What this service is, and links",
        scope="public",
        answer=Root,
        example=_ROOT.model_dump(),
        contents={_HTML: docs.content(docs.TEXT)},
    ),
)
def root(request: Request) -> Response:
    """A page for a browser, else JSON: the name and the links of the service."""
    services = services_of(request)
    if negotiate(request, (docs.JSON, _HTML)) == _HTML:
        model = services.model_watcher.current
        page = text_pages.render_root(
            NOTICE,
            _PAGES | _airflow(services.settings.airflow_url),
            None if model is None else model.version,
            services.readiness().error,
        )
        return _html(page, text_pages.POLICY)
    prefix = services.settings.root_path
    links = {name: f"{prefix}{path}" for name, path in _ROOT.links.items()}
    return json_response(_ROOT.model_copy(update={"links": links}))


def _airflow(address: str) -> dict[str, str]:
    """The link to Airflow, where its address is set; without credentials in it."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return {}
    host = parts.netloc.rpartition("@")[2]
    return {"Airflow": parts._replace(netloc=host, query="", fragment="").geturl()}


@router.get("/openapi.json", **_HIDDEN)
def openapi(request: Request) -> Response:
    """The OpenAPI document, with the features and an example of the loaded model."""
    services = services_of(request)
    model = services.model_watcher.current
    # Generating takes a while and the path is public, so the document is cached per model.
    cached: tuple[LoadedModel | None, bytes] | None = getattr(request.app.state, "document", None)
    if cached is None or cached[0] is not model:
        document = openapi_document(request.app, model, services.settings.root_path)
        cached = request.app.state.document = model, msgspec.json.encode(document)
    return Response(cached[1], media_type=docs.JSON)


@router.get("/docs", **_HIDDEN)
def swagger() -> Response:
    """The OpenAPI document in Swagger UI, to try the operations."""
    return _html(docs_page.render_swagger(), docs_page.SWAGGER_POLICY)


@router.get("/redoc", **_HIDDEN)
def redoc() -> Response:
    """The OpenAPI document in ReDoc, to read."""
    return _html(docs_page.render_redoc(), docs_page.REDOC_POLICY)


@router.get("/problems", **_HIDDEN)
def error_types() -> Response:
    """The page that the ``type`` of every error response links to."""
    return _html(text_pages.render_error_types(), text_pages.POLICY)


@router.get("/docs/assets/{name}", **_HIDDEN)
def assets(name: str, request: Request) -> Response:
    """A file of the documentation pages."""
    asset = docs_page.load_asset(name)
    headers = {"Cache-Control": _CACHE_FOR_EVER, "ETag": f'"{asset.digest}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(asset.data, headers=headers, media_type=asset.media_type)


def _html(page: str, policy: str) -> Response:
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})
