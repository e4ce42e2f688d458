"""The pages in Airflow's API server, with its authorisation and its database."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.session import create_session
from fastapi import FastAPI

from bc_airflow.run_note import ingest_notes
from bc_airflow.web.app import create_app

# Runs of release 0.1.0 had one challenger, and no task `choose`.
_GATE_TASKS = ("choose", "decide")


def pages_for_airflow() -> FastAPI:
    """The pages, for users who may read the runs of the DAG in the path."""
    return create_app(
        requires_access_dag("GET", DagAccessEntity.RUN), decided_versions, notes_of_run
    )


def notes_of_run(dag_id: str, run_id: str) -> list[str]:
    """Notes about files and rows that the run's ingest refused."""
    with create_session() as session:
        return ingest_notes(session, dag_id, run_id)


def decided_versions(dag_id: str, run_id: str) -> list[str]:
    """The versions that a run's gate judged, the winner first, from what the task returned."""
    for task in _GATE_TASKS:
        query = XComModel.get_many(
            run_id=run_id, dag_ids=dag_id, task_ids=task, key=XCOM_RETURN_KEY, limit=1
        )
        with create_session() as session:
            row = session.scalars(query).first()
            decision = XComModel.deserialize_value(row) if row is not None else None
        if isinstance(decision, dict):
            winner = decision["version"]
            others = [each["version"] for each in decision.get("challengers", ())]
            return [winner, *(version for version in others if version != winner)]
    return []
