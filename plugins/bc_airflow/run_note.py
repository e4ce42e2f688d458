"""Writes the run's note, which Airflow's pages show first: files and rows that ingest refused.

Airflow calls the two functions in the scheduler, with the run of its own session, when a run ends.
A task cannot write a note: it has no access to the database.
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

from bc_pipeline.run_note import add_lines

INGEST_TASK = "ingest"


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    write_note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    write_note(dag_run)


def write_note(dag_run: Any) -> None:
    """Add the notes of the run's ingest task to the run's note, below what a person wrote."""
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is not None:
        notes = ingest_notes(session, dag_run.dag_id, dag_run.run_id)
        note = add_lines(dag_run.note, notes)
        if note != dag_run.note:
            dag_run.note = note


def ingest_notes(session: Any, dag_id: str, run_id: str) -> list[str]:
    """The notes of a run's ingest task; none where it has not ended, or is of another project."""
    from airflow.models.xcom import XCOM_RETURN_KEY, XComModel

    query = XComModel.get_many(
        run_id=run_id, dag_ids=dag_id, task_ids=INGEST_TASK, key=XCOM_RETURN_KEY, limit=1
    )
    row = session.scalars(query).first()
    ingested = XComModel.deserialize_value(row) if row is not None else None
    notes = ingested.get("notes", []) if isinstance(ingested, dict) else []
    return [note for note in notes if isinstance(note, str)]
