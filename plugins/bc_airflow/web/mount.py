"""The pages in Airflow's API server, with its authorisation and its database."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from fastapi import FastAPI
from sqlalchemy import select

from bc_airflow.run_note import ingest_notes
from bc_airflow.volume import is_own_dag
from bc_airflow.web.app import create_app

# Runs of release 0.1.0 had one challenger, and no task `choose`.
_GATE_TASKS = ("choose", "decide")
_SELECT_TASK = "select"
_NO_REASON = "its log says why"


def pages_for_airflow() -> FastAPI:
    """The pages, for users who may read the runs of the DAG in the path."""
    return create_app(requires_access_dag("GET", DagAccessEntity.RUN), AirflowRuns())


class AirflowRuns:
    """The `Runs` of Airflow's database."""

    def decided_versions(self, dag_id: str, run_id: str) -> list[str]:
        with create_session() as session:
            if approved := _version_of_approval(session, dag_id, run_id):
                return [approved]
            for task in _GATE_TASKS:
                decision = _result(session, dag_id, run_id, task)
                if isinstance(decision, dict):
                    winner = decision["version"]
                    others = [each["version"] for each in decision.get("challengers", ())]
                    return [winner, *(version for version in others if version != winner)]
        return []

    def ingest_notes(self, dag_id: str, run_id: str) -> list[str]:
        with create_session() as session:
            return ingest_notes(session, dag_id, run_id)

    def why_selected(self, dag_id: str, run_id: str) -> str:
        with create_session() as session:
            selection = _result(session, dag_id, run_id, _SELECT_TASK)
        return str(selection.get("why", "")) if isinstance(selection, dict) else ""

    def failures(self, dag_id: str, run_id: str) -> list[str]:
        query = (
            select(TaskInstance)
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == run_id,
                TaskInstance.state == TaskInstanceState.FAILED,
            )
            .order_by(TaskInstance.end_date)
        )
        with create_session() as session:
            return [
                f"{task.task_display_name} failed: {_reason(session, task)}"
                for task in session.scalars(query)
            ]


def _reason(session: Any, task: TaskInstance) -> str:
    """What a task said of its failure; errors of other libraries are only in its log."""
    said = _result(session, task.dag_id, task.run_id, task.task_id, "conclusion")
    return str(said.get("reason") or _NO_REASON) if isinstance(said, dict) else _NO_REASON


def _result(
    session: Any, dag_id: str, run_id: str, task_id: str, key: str = XCOM_RETURN_KEY
) -> Any:
    """What a task returned, or pushed under another key; None where it did not."""
    query = XComModel.get_many(run_id=run_id, dag_ids=dag_id, task_ids=task_id, key=key, limit=1)
    row = session.scalars(query).first()
    return XComModel.deserialize_value(row) if row is not None else None


def _version_of_approval(session: Any, dag_id: str, run_id: str) -> str | None:
    """The version that the run of an approval asks about."""
    if not (is_own_dag(dag_id) and dag_id.endswith("_approval")):
        return None
    query = select(DagRun.conf).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    return str((session.scalar(query) or {}).get("version") or "") or None
