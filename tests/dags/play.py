"""Run scenarios through ``dag.test()`` with the steps of ``fake_steps.py``.

The first argument names a JSON file ``{scenario: {dag, conf, answers, failures, ...}}``;
what came of each is written to the file that the last one names.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))
import fake_steps

import bc_pipeline

# The DAG files get the fake wherever they import it from.
sys.modules["bc_pipeline.steps"] = fake_steps
bc_pipeline.steps = fake_steps

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import handle_event_submit
from airflow.models.xcom import XComModel
from airflow.sdk import timezone
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.triggers.base import TriggerEvent
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

SLEEP = time.sleep


def answer_question(answer: dict[str, Any], asked: dict[str, Any], ended: threading.Event) -> None:
    """Answer as soon as the question is there, however long the run takes to come to it."""
    while not ended.wait(0.1):
        # The run writes to the same database, which has one writer at a time.
        with suppress(OperationalError):
            if answered(answer, asked):
                return


def answered(answer: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Do what the REST API does with a person's answer; False where nothing is asked yet."""
    with create_session() as session:
        waiting = session.scalar(select(TaskInstance).where(TaskInstance.state == "awaiting_input"))
        if waiting is None:
            return False
        detail = session.scalar(select(HITLDetail).where(HITLDetail.ti_id == waiting.id))
        asked |= {"subject": detail.subject, "body": detail.body, "defaults": detail.defaults}
        user = answer["user"]
        detail.responded_by = {"id": user, "name": user} if user else None
        detail.responded_at = timezone.utcnow()
        detail.chosen_options = [answer["choice"]]
        detail.params_input = {}
        event = TriggerEvent(detail.as_resume_event_payload())
        handle_event_submit(event, task_instance=waiting, session=session)
    return True


@contextmanager
def of_type(run_type: DagRunType) -> Iterator[None]:
    """``dag.test()`` makes manual runs only."""
    create = SerializedDAG.create_dagrun

    def created(self: SerializedDAG, **arguments: Any) -> Any:
        # A run that a task triggers has its own type.
        if arguments["run_type"] is DagRunType.MANUAL:
            arguments["run_type"] = run_type
            arguments["run_id"] = arguments["run_id"].replace("manual", run_type.value)
        return create(self, **arguments)

    with patch.object(SerializedDAG, "create_dagrun", created):
        yield


def note_after(session: Any, run: Any) -> str | None:
    """The run's note, once the scheduler has told plugins that the run ended.

    ``dag.test()`` tells them too, and does not commit what they do.
    """
    stored = session.get(DagRun, run.id)
    stored.set_state(run.state)
    stored.notify_dagrun_state_changed(msg="ended")
    return stored.note


def play(dag: Any, scenario: dict[str, Any], folder: Path) -> dict[str, Any]:
    script = folder / "scenario.json"
    script.write_text(json.dumps(scenario))
    script.with_suffix(".calls").unlink(missing_ok=True)
    os.environ["FAKE_STEPS"] = str(script)
    asked: dict[str, Any] = {}
    person, ended = None, threading.Event()
    if scenario.get("answer"):
        person = threading.Thread(target=answer_question, args=(scenario["answer"], asked, ended))
        person.start()
    logical = scenario.get("logical_date")
    date = timezone.parse(logical) if logical else None
    with (
        patch.dict(os.environ, scenario.get("environment", {})),
        of_type(DagRunType(scenario.get("run_type", "manual"))),
    ):
        run = dag.test(logical_date=date, run_conf=scenario.get("conf"))
    ended.set()
    if person:
        person.join()
    calls = script.with_suffix(".calls")
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id))
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id))
        results = session.scalars(
            select(XComModel).where(XComModel.run_id == run.run_id, XComModel.dag_result.is_(True))
        )
        approval = session.scalar(
            select(XComModel).where(
                XComModel.run_id == run.run_id,
                XComModel.task_id == "approve",
                XComModel.key == "return_value",
            )
        )
        return {
            "run_id": run.run_id,
            "run_after": run.run_after.isoformat(),
            "state": str(run.state),
            "note": note_after(session, run),
            "tasks": [
                {
                    "task": task.task_id,
                    "label": task.rendered_map_index,
                    "state": str(task.state),
                    "tries": task.try_number,
                }
                for task in tasks
            ],
            "events": [{"asset": event.asset.name, "extra": event.extra} for event in events],
            "results": {row.task_id: row.value for row in results},
            "approval": approval.value if approval else None,
            "calls": [json.loads(line) for line in calls.read_text().splitlines()]
            if calls.exists()
            else [],
            "asked": asked,
            "requested": [
                {"dag": each.dag_id, "conf": each.conf}
                for each in session.scalars(
                    select(DagRun).where(DagRun.run_id == f"approval__{run.run_id}")
                )
            ],
        }


def fresh_dag(dag_id: str) -> Any:
    """The DAG, parsed anew: a run in this process leaves its Params in the DAG's tasks."""
    dag = DagBag().dags[dag_id]
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
        task.retry_exponential_backoff = 0
    return dag


def main(scenarios: str, answer: str) -> None:
    initdb()
    # ``dag.test()`` looks once a second whether a waiting task can go on.
    time.sleep = lambda seconds: SLEEP(min(seconds, 0.05))
    report = {
        name: play(fresh_dag(scenario["dag"]), scenario, Path(answer).parent)
        for name, scenario in json.loads(Path(scenarios).read_text()).items()
    }
    Path(answer).write_text(json.dumps(report))


main(sys.argv[1], sys.argv[-1])
