"""Call the listener of ``supersede.py`` on runs in Airflow's database, and `one_user`.

The first argument names a JSON file with the run ids of ``play.py``: ``waiting``, of runs of the
approval DAG that shall wait, and ``newer``, ``promoted``, ``rejected`` and ``scored``. What was
seen is written to the file that the last one names; nothing stays in the database.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import timezone
from airflow.utils.session import create_session
from bc_airflow import supersede
from bc_airflow.users import one_user
from bc_airflow.web.mount import AirflowRuns
from sqlalchemy import select

LATER = timezone.parse("2099-01-01T00:00:00Z")
USERS = {
    "two": {"SIMPLE_AUTH_MANAGER_USERS": "ada:admin, otto:op"},
    "one and a reader": {"SIMPLE_AUTH_MANAGER_USERS": "ada:admin,eve:viewer"},
    "all admins": {"SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"},
    "another manager": {"AUTH_MANAGER": "airflow.providers.fab.FabAuthManager"},
}


def expired(session: Any, runs: dict[str, Any], call: Any, name: str) -> list[str]:
    """The runs whose wait ends now, when Airflow tells the listener of a run."""
    waiting = {
        run_id: session.scalar(
            select(TaskInstance).where(
                TaskInstance.run_id == run_id, TaskInstance.task_id == "approve"
            )
        )
        for run_id in [*runs["waiting"], runs["newer"]]
    }
    for task in waiting.values():
        task.state, task.trigger_timeout = "awaiting_input", LATER
    # One is answered already.
    waiting[runs["waiting"][-1]].state = "success"
    session.flush()
    call(session.scalar(select(DagRun).where(DagRun.run_id == runs[name])), "")
    session.expire_all()
    return [run_id for run_id, task in waiting.items() if task.trigger_timeout < LATER]


def users() -> dict[str, str]:
    found = {}
    for name, options in USERS.items():
        environment = {f"AIRFLOW__CORE__{option}": value for option, value in options.items()}
        before = dict(os.environ)
        os.environ.update(environment)
        found[name] = one_user()
        os.environ.clear()
        os.environ.update(before)
    return found


def main(runs_file: str, answer: str) -> None:
    runs = json.loads(Path(runs_file).read_text())
    with create_session() as session:
        seen = {
            name: expired(session, runs, call, name)
            for name, call in (
                ("newer", supersede.on_dag_run_running),
                ("promoted", supersede.on_dag_run_success),
                ("rejected", supersede.on_dag_run_success),
                ("scored", supersede.on_dag_run_running),
            )
        }
        session.rollback()
    decided = AirflowRuns().decided_versions("wdbc_approval", runs["newer"])
    report = {"expired": seen, "users": users(), "decided": decided}
    Path(answer).write_text(json.dumps(report))


main(sys.argv[1], sys.argv[-1])
