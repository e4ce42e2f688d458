"""The routes. Nothing is answered before `authorise` has let the reader pass."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from bc_airflow.volume import Judged, Volume, volume_of_dag
from bc_airflow.web import pages
from bc_pipeline.errors import PipelineError, VersionNotFound

_HISTORY = 60
_AUDIT_LINES = 25
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# A figure is looked at, never run: an SVG may hold scripts.
_FIGURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
# No sandbox here: its pages link to each other, and a sandboxed page is sent no cookie.
_DATA_DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"
_NO_VERDICT = (
    "This run has no verdict: it scores only, has not come as far as the gate, or failed before "
    "it. The tab Models of the DAG lists every verdict."
)


def create_app(
    authorise: Callable[..., Any], decided_version: Callable[[str, str], str | None]
) -> FastAPI:
    """The pages as an application of their own.

    Parameters
    ----------
    authorise : callable
        FastAPI dependency that raises unless the reader may see the DAG of the path
        parameter ``dag_id``. Airflow leaves mounted applications open, so every route
        depends on it.
    decided_version : callable
        ``decided_version(dag_id, run_id)`` gives the version that the run's gate judged,
        or None. A run that repeats an earlier one leads to the version of that one.
    """
    # No schema and no documentation pages: they would be the only routes left open.
    app = FastAPI(dependencies=[Depends(authorise)], openapi_url=None)
    app.exception_handler(PipelineError)(_refuse)

    @app.get("/dags/{dag_id}")
    def models(request: Request, dag_id: str) -> Response:
        volume = _volume(dag_id)
        html = pages.models_page(
            volume.store.problem,
            volume.registry(),
            list(islice(volume.newest_first(), _HISTORY)),
            volume.audit_tail(_AUDIT_LINES),
            _base(request, dag_id),
        )
        return _page(html)

    @app.get("/dags/{dag_id}/runs/{run_id}")
    def run(request: Request, dag_id: str, run_id: str) -> Response:
        volume = _volume(dag_id)
        version = decided_version(dag_id, run_id)
        judged = volume.judged(version) if version else volume.made_by(run_id)
        if judged is None:
            return _page(pages.message_page("No verdict", _NO_VERDICT))
        return _verdict(request, dag_id, volume, judged)

    @app.get("/dags/{dag_id}/versions/{version}")
    def one_version(request: Request, dag_id: str, version: str) -> Response:
        volume = _volume(dag_id)
        return _verdict(request, dag_id, volume, volume.judged(version))

    @app.get("/dags/{dag_id}/versions/{version}/files/{name:path}")
    def file(dag_id: str, version: str, name: str) -> Response:
        data, content_type = _volume(dag_id).file(version, name)
        headers = _HEADERS | {
            "Cache-Control": "private, max-age=3600",
            "Content-Security-Policy": _FIGURE_POLICY,
        }
        return Response(data, media_type=content_type, headers=headers)

    @app.get("/dags/{dag_id}/data-docs/{name:path}")
    def data_doc(dag_id: str, name: str) -> Response:
        headers = _HEADERS | {
            "Cache-Control": "no-store",
            "Content-Security-Policy": _DATA_DOCS_POLICY,
        }
        return HTMLResponse(_volume(dag_id).data_doc(name), headers=headers)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        return _page(pages.message_page("Not shown", str(error.detail)), error.status_code)

    return app


def _volume(dag_id: str) -> Volume:
    volume = volume_of_dag(dag_id)
    if volume is None:
        raise HTTPException(404, "This DAG neither trains nor scores a model of this project.")
    return volume


def _page(html: str, status: int = 200) -> Response:
    headers = _HEADERS | {
        "Cache-Control": "no-store",
        "Content-Security-Policy": pages.content_security_policy(),
    }
    return HTMLResponse(html, status, headers=headers)


def _base(request: Request, dag_id: str) -> str:
    """URL of the DAG's pages below wherever Airflow has mounted them."""
    return f"{request.scope.get('root_path', '')}/dags/{dag_id}"


def _verdict(request: Request, dag_id: str, volume: Volume, judged: Judged) -> Response:
    return _page(pages.verdict_page(judged, volume.registry(), _base(request, dag_id)))


async def _refuse(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, VersionNotFound) else 500
    return _page(pages.message_page("This cannot be shown", str(error)), status)
