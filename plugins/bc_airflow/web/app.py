"""The routes; every one depends on `authorise`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from bc_airflow.volume import Judged, Volume, volume_of_dag
from bc_airflow.web import pages
from bc_pipeline.errors import PipelineError, VersionNotFound
from bc_pipeline.settings import load_settings

_HISTORY = 60
_AUDIT_LINES = 25
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# An SVG may contain scripts: they must not run.
_FIGURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
# Without `sandbox`: the pages link to each other, and a sandboxed page gets no cookies.
_DATA_DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"
_NO_VERDICT = (
    "This run has no verdict: it scores only, has not come as far as the gate, or failed before "
    "it. The tab Models of the DAG lists every verdict."
)


def create_app(
    authorise: Callable[..., Any],
    decided_versions: Callable[[str, str], list[str]],
    notes_of_run: Callable[[str, str], list[str]],
) -> FastAPI:
    """The pages as an application of their own.

    Parameters
    ----------
    authorise : callable
        FastAPI dependency that raises unless the reader may see the DAG of the path
        parameter ``dag_id``. Airflow leaves mounted applications open, so every route
        depends on it.
    decided_versions : callable
        ``decided_versions(dag_id, run_id)`` gives the versions that the run's gate judged, the
        winner first. A run that repeats an earlier one has the versions of that one.
    notes_of_run : callable
        ``notes_of_run(dag_id, run_id)`` gives the notes about what the run's ingest refused.
    """
    # Without schema and documentation pages: they would have no authorisation.
    app = FastAPI(dependencies=[Depends(authorise)], openapi_url=None)
    app.exception_handler(PipelineError)(_show_error)
    app.exception_handler(HTTPException)(_show_http_error)

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
        found = decided_versions(dag_id, run_id)
        judged = [volume.judged(version) for version in found] or volume.made_by(run_id)
        notes = notes_of_run(dag_id, run_id)
        if not judged:
            return _page(pages.message_page("No verdict", _NO_VERDICT, notes))
        return _verdicts(request, dag_id, volume, judged, notes)

    @app.get("/dags/{dag_id}/versions/{version}")
    def one_version(request: Request, dag_id: str, version: str) -> Response:
        volume = _volume(dag_id)
        return _verdicts(request, dag_id, volume, [volume.judged(version)])

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

    return app


def _volume(dag_id: str) -> Volume:
    volume = volume_of_dag(load_settings(), dag_id)
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
    """URL of the DAG's pages, below the path that Airflow mounted the application at."""
    return f"{request.scope.get('root_path', '')}/dags/{dag_id}"


def _verdicts(
    request: Request, dag_id: str, volume: Volume, judged: list[Judged], notes: Sequence[str] = ()
) -> Response:
    base = _base(request, dag_id)
    return _page(pages.verdicts_page(judged, volume.registry(), base, notes))


async def _show_error(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, VersionNotFound) else 500
    return _page(pages.message_page("This cannot be shown", str(error)), status)


async def _show_http_error(request: Request, error: Any) -> Response:
    return _page(pages.message_page("Not shown", str(error.detail)), error.status_code)
