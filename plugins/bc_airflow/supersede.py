"""Ends waiting approvals when a later run asks for one, or promotes without one.

Airflow calls the functions in the scheduler, which alone may change a task of another run. The
task's own time limit is moved to now: the scheduler then answers with the default, as it does
when the limit passes, and the task finds on the volume that its version was superseded.
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

from bc_airflow.run_note import concluded
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.problems import PROBLEMS


@hookimpl
def on_dag_run_running(dag_run: Any, msg: str) -> None:
    if dag_run.dag_id in _APPROVALS:
        expire_others(dag_run, dag_run.dag_id)


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    from sqlalchemy.orm import object_session

    approvals = _BY_RETRAIN.get(dag_run.dag_id)
    session = object_session(dag_run)
    if approvals is None or session is None:
        return
    ended = concluded(session, dag_run)
    if ended is not None and ended.conclusion is Conclusion.PROMOTED:
        expire_others(dag_run, approvals)


def expire_others(dag_run: Any, dag_id: str) -> None:
    """Let the wait of every other run of the approval DAG end now."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk import timezone
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import update
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    session.execute(
        update(TaskInstance)
        .where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id != dag_run.run_id,
            TaskInstance.state == TaskInstanceState.AWAITING_INPUT,
        )
        .values(trigger_timeout=timezone.utcnow())
        .execution_options(synchronize_session=False)
    )


_APPROVALS = {f"{problem.name}_approval" for problem in PROBLEMS}
_BY_RETRAIN = {f"{problem.name}_retrain": f"{problem.name}_approval" for problem in PROBLEMS}
