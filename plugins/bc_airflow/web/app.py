"""The routes; every one depends on `authorise`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from bc_airflow.volume import Judged, Volume, volume_of_dag
from bc_airflow.web import pages
from bc_airflow.web.runs import Runs
from bc_pipeline.errors import PipelineError, VersionNotFound
from bc_pipeline.settings import load_settings

_HISTORY = 60
_AUDIT_LINES = 25
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# An SVG may contain scripts: they must not run.
_FIGURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_NO_VERDICT = (
    "This run has no verdict: it scores only, or has not come as far as the gate. The tab Models "
    "of the DAG lists every verdict."
)
_FAILED_RUN = (
    "It failed before the gate; the champion, if there is one, goes on answering. Correct the "
    "cause and clear the failed task: every step may run twice."
)


def create_app(authorise: Callable[..., Any], runs: Runs) -> FastAPI:
    """The pages as an application of their own.

    Parameters
    ----------
    authorise : callable
        FastAPI dependency that raises unless the reader may see the DAG of the path
        parameter ``dag_id``. Airflow leaves mounted applications open, so every route
        depends on it.
    runs : Runs
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
    def one_run(request: Request, dag_id: str, run_id: str) -> Response:
        volume = _volume(dag_id)
        decided = runs.decided_versions(dag_id, run_id)
        judged = [volume.judged(version) for version in decided] or volume.made_by(run_id)
        run = pages.RunEvents(runs.ingest_notes(dag_id, run_id), runs.failures(dag_id, run_id))
        if not judged:
            if run.failures:
                page = pages.message_page("No verdict: the run failed", _FAILED_RUN, run)
            else:
                page = pages.message_page("No verdict", _NO_VERDICT, run)
            return _page(page)
        return verdicts(request, dag_id, volume, judged, run)

    @app.get("/dags/{dag_id}/versions/{version}")
    def one_version(request: Request, dag_id: str, version: str) -> Response:
        volume = _volume(dag_id)
        return verdicts(request, dag_id, volume, [volume.judged(version)])

    def verdicts(
        request: Request,
        dag_id: str,
        volume: Volume,
        judged: list[Judged],
        run: pages.RunEvents = pages.NO_EVENTS,
    ) -> Response:
        lineage = judged[0].manifest.lineage
        made_by = lineage.dag.dag_id if lineage.dag else dag_id
        why = runs.why_selected(made_by, lineage.run_id or "")
        base = _base(request, dag_id)
        names = [each.manifest.version for each in judged]
        html = pages.verdicts_page(
            judged,
            volume.registry(),
            base,
            run,
            why,
            requests={version: volume.requests(version) for version in names},
            decisions={version: volume.decisions(version) for version in names},
        )
        return _page(html)

    @app.get("/dags/{dag_id}/versions/{version}/card")
    def card(request: Request, dag_id: str, version: str) -> Response:
        text = _volume(dag_id).card(version)
        return _page(pages.card_page(version, text, _base(request, dag_id)))

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
            "Content-Security-Policy": pages.data_docs_policy(),
        }
        html = pages.with_theme(_volume(dag_id).data_doc(name).decode())
        return HTMLResponse(html, headers=headers)

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


async def _show_error(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, VersionNotFound) else 500
    return _page(pages.message_page("This cannot be shown", str(error)), status)


async def _show_http_error(request: Request, error: Any) -> Response:
    return _page(pages.message_page("Not shown", str(error.detail)), error.status_code)
