"""Writes how a run ended, and files and rows that ingest refused, as the note on its page.

Airflow calls the two functions in the scheduler, with the run of its own session, when a run ends.
A task cannot write a note: it has no access to the database.
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

from bc_airflow.volume import is_own_dag
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.run_note import Concluded, add_lines

INGEST_TASK = "ingest"
CONCLUSION_KEY = "conclusion"
# Conclusions that a task pushes before its last step, which can still fail.
_DONE = {Conclusion.PROMOTED, Conclusion.AWAITING_APPROVAL, Conclusion.SCORED}


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    write_note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    write_note(dag_run)


def write_note(dag_run: Any) -> None:
    """Add the result, and the notes of the run's ingest task, below what a person wrote."""
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is not None and is_own_dag(dag_run.dag_id):
        notes = ingest_notes(session, dag_run.dag_id, dag_run.run_id)
        note = add_lines(dag_run.note, notes, concluded(session, dag_run))
        if note != dag_run.note:
            dag_run.note = note


def concluded(session: Any, dag_run: Any) -> Concluded | None:
    """How the run ended: what its last task said, or which tasks failed."""
    from airflow.models.xcom import XComModel

    query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=CONCLUSION_KEY)
    rows = sorted(session.scalars(query), key=lambda row: row.timestamp)
    values = [XComModel.deserialize_value(row) for row in rows]
    said = [Concluded(Conclusion(value["conclusion"]), value["reason"]) for value in values]
    # A task that failed by an error of this package has said so itself.
    explained = {
        row.task_id for row, each in zip(rows, said, strict=True) if each.conclusion not in _DONE
    }
    if unexplained := _failed_tasks(session, dag_run) - explained:
        reason = f"Failed: {', '.join(sorted(unexplained))}. The log of the task says why."
        return Concluded(Conclusion.FAILED, reason)
    return said[-1] if said else None


def _failed_tasks(session: Any, dag_run: Any) -> set[str]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    query = select(TaskInstance.task_id).where(
        TaskInstance.dag_id == dag_run.dag_id,
        TaskInstance.run_id == dag_run.run_id,
        TaskInstance.state == TaskInstanceState.FAILED,
    )
    return set(session.scalars(query))


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
