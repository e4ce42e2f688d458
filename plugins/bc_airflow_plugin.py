"""Adds tabs to the pages of runs and DAGs and notes to runs, and ends superseded approvals."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin
from bc_airflow import run_note, supersede

_PREFIX = "/bc"


class _Pages:
    """The pages, built at the first request.

    Every Airflow process imports this file, workers too; only the API server needs the
    application.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from bc_airflow.web.mount import pages_for_airflow

            self._app = pages_for_airflow()
        await self._app(scope, receive, send)


class BcPipelinePlugin(AirflowPlugin):
    name = "bc_pipeline"
    listeners: ClassVar[list[Any]] = [run_note, supersede]
    fastapi_apps: ClassVar[list[Any]] = [
        {"app": _Pages(), "url_prefix": _PREFIX, "name": "bc_pipeline"}
    ]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Gate verdict",
            "href": f"{_PREFIX}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "verdict",
        },
        {
            "name": "Models",
            "href": f"{_PREFIX}/dags/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "models",
        },
        {
            "name": "Data docs",
            "href": f"{_PREFIX}/dags/{{DAG_ID}}/data-docs/index.html",
            "destination": "dag",
            "url_route": "data-docs",
        },
    ]
