"""The pages inside Airflow's API server: its users, its database."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.session import create_session
from fastapi import FastAPI

from bc_airflow.web.app import create_app

GATE_TASK = "decide"


def pages_for_airflow() -> FastAPI:
    """Open to whoever may read the runs of the DAG in the address."""
    return create_app(requires_access_dag("GET", DagAccessEntity.RUN), decided_version)


def decided_version(dag_id: str, run_id: str) -> str | None:
    """The version that a run's gate judged, from what the task returned."""
    query = XComModel.get_many(
        run_id=run_id, dag_ids=dag_id, task_ids=GATE_TASK, key=XCOM_RETURN_KEY, limit=1
    )
    with create_session() as session:
        row = session.scalars(query).first()
        decision = XComModel.deserialize_value(row) if row is not None else None
    return decision["version"] if isinstance(decision, dict) else None
