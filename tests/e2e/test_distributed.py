"""Celery workers, PostgreSQL and Redis as real processes, killed and stopped under a retrain.

Whatever dies, the run ends well and the volume tells of exactly one promotion. The tests run
in order on one cluster; each leaves it whole for the next.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bc_pipeline.airflow_api import FINAL_RUN_STATES
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.versions import list_versions, open_pointer, open_stored
from bc_pipeline.clock import format_time
from bc_pipeline.data.demo_feed import write_demo_feed
from bc_pipeline.errors import PipelineError
from bc_pipeline.problems.base import Problem
from bc_pipeline.promotion import audit
from bc_pipeline.stack.first_cycle import last_week
from tests.e2e.cluster.broker import PROGRAM
from tests.e2e.cluster.cluster import WORKERS, Cluster
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RETRAIN = "wdbc_retrain"
# Long enough that whatever waits for a server tries it, and fails, more than once.
OUTAGE_SECONDS = 8.0
# Shown by 'pytest --log-cli-level INFO'.
log = logging.getLogger(__name__)
Task = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, wdbc: Problem) -> Iterator[Cluster]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is missing: 'apt-get install redis-server' brings it")
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        write_demo_feed(wdbc, made.store, datetime.now(UTC))
        made.start()
        yield made
    finally:
        made.close()


class Retrain:
    """One run of the retrain, as of a time."""

    def __init__(self, cluster: Cluster, as_of: datetime) -> None:
        self.cluster = cluster
        self.before = read_registry(cluster.store)
        start, end = (format_time(moment) for moment in last_week(datetime.now(UTC)))
        conf = {"as_of": format_time(as_of), "train_anyway": True}
        body: dict[str, Any] = {"logical_date": None, "conf": conf}
        if self.before.production is None:
            # In place of the run that the schedule would start first.
            interval = {"data_interval_start": start, "data_interval_end": end}
            body |= {"logical_date": start, "run_after": end, **interval}
        cluster.airflow.wait_for_dag(RETRAIN, 120)
        self.run_id = cluster.airflow.trigger(RETRAIN, body)
        cluster.airflow.unpause(RETRAIN)

    def tasks(self) -> dict[tuple[str, int], Task]:
        found = self.cluster.airflow.tasks(RETRAIN, self.run_id)
        return {(task["task_id"], task["map_index"]): task for task in found}

    def until_runs(self, task_id: str, map_index: int = -1) -> Task:
        """Wait until Airflow says that a task runs; the task."""

        def running() -> Task | None:
            task = self.tasks().get((task_id, map_index), {})
            assert task.get("state") not in ("success", "failed"), f"{task_id} was too quick"
            return task if task.get("state") == "running" and task["pid"] else None

        found: Task = wait_until(running, 300, f"{task_id} runs")
        return found

    def until_ended(self, task_id: str) -> None:
        wait_until(
            lambda: self.tasks()[task_id, -1]["state"] == "success", 600, f"{task_id} ends well"
        )

    def finish(self) -> dict[tuple[str, int], Task]:
        """Wait for the end, also while the API is away; the tasks."""

        def ended() -> str | None:
            try:
                state = str(self.cluster.airflow.run(RETRAIN, self.run_id)["state"])
            except PipelineError:
                return None
            return state if state in FINAL_RUN_STATES else None

        state = wait_until(ended, 600, f"{self.run_id} ends")
        tasks = self.tasks()
        assert state == "success", {key: task["state"] for key, task in tasks.items()}
        return tasks

    def promoted_once(self) -> Registry:
        """Read from the volume that the run moved the pointer once, to a whole version."""
        store, verify_key = self.cluster.store, self.cluster.settings.verify_key
        registry = read_registry(store)
        report = audit.verify(store)
        own = [line for line in read_audit_log(store).lines if line.run_id == self.run_id]
        assert [line.event for line in own] == ["verdict", "release_started", "promotion"]
        assert len({line.version for line in own}) == 1
        assert registry.production is not None
        assert registry.production.version == own[-1].version
        assert registry.generation == own[-1].generation == self.before.generation + 1
        assert registry.previous == self.before.production
        assert not report.unfinished_line
        assert report.unfinished_release is None
        for pointer in (registry.production, registry.staging, registry.previous):
            if pointer is not None:
                open_pointer(store, pointer, verify_key).verify_all()
        for version in list_versions(store):
            open_stored(store, version, verify_key).verify_all()
        return registry


@pytest.fixture(scope="module")
def retrain(cluster: Cluster) -> Callable[[int], Retrain]:
    """Start a run as of so many weeks before the feed ends; the same week is the same data."""
    _, end = last_week(datetime.now(UTC))
    started = 0

    def start(weeks_before: int) -> Retrain:
        nonlocal started
        started += 1
        return Retrain(cluster, end - timedelta(weeks=weeks_before) + timedelta(seconds=started))

    return start


def seconds_since(moment: float, task: Task) -> float:
    """From a moment by the wall clock to the start of a task's last try."""
    return datetime.fromisoformat(task["start_date"]).timestamp() - moment


def test_two_workers_bring_the_first_champion(
    cluster: Cluster, retrain: Callable[[int], Retrain]
) -> None:
    run = retrain(2)
    tasks = run.finish()
    assert {cluster.worker_of(task) for task in tasks.values() if task["pid"]} == set(WORKERS)
    assert {task["try_number"] for task in tasks.values() if task["pid"]} == {1}
    assert run.promoted_once().generation == 1


def test_a_worker_is_killed_while_it_trains(
    cluster: Cluster,
    retrain: Callable[[int], Retrain],
    wdbc: Problem,
) -> None:
    forest = [candidate.name for candidate in wdbc.candidates].index("random_forest")
    run = retrain(1)
    task = run.until_runs("train", forest)
    lost = cluster.worker_of(task)
    assert cluster.parts[lost].holds(task["pid"])
    cluster.parts[lost].kill()
    killed = time.time()
    assert not cluster.parts[lost].holds(task["pid"])
    try:
        again = run.finish()["train", forest]
        assert again["try_number"] == 2
        (survivor,) = set(WORKERS) - {lost}
        assert cluster.worker_of(again) == survivor
        log.info("the killed task went on after %.1f s", seconds_since(killed, again))
        run.promoted_once()
    finally:
        cluster.parts[lost].start()


def test_the_scheduler_is_killed_and_started(
    cluster: Cluster,
    retrain: Callable[[int], Retrain],
) -> None:
    run = retrain(1)
    task = run.until_runs("validate")
    cluster.parts["scheduler"].kill()
    killed = time.time()
    # Running tasks need no scheduler.
    run.until_ended("validate")
    cluster.parts["scheduler"].start()
    started = time.time()
    tasks = run.finish()
    assert tasks["validate", -1]["pid"] == task["pid"]
    assert tasks["validate", -1]["try_number"] == 1
    waited = seconds_since(started, tasks["snapshot", -1])
    log.info("away for %.1f s; the run went on after %.1f s", started - killed, waited)
    run.promoted_once()


@pytest.mark.parametrize("server", ["redis", "postgresql"])
def test_a_server_is_stopped_and_started(
    cluster: Cluster,
    retrain: Callable[[int], Retrain],
    server: str,
) -> None:
    stop, start = {
        "redis": (cluster.broker.process.stop, cluster.broker.start),
        "postgresql": (cluster.database.stop, cluster.database.start),
    }[server]
    run = retrain(1)
    run.until_runs("validate")
    stop()
    time.sleep(OUTAGE_SECONDS)
    start()
    started = time.time()
    tasks = run.finish()
    waited = seconds_since(started, tasks["snapshot", -1])
    again = {key: task["try_number"] for key, task in tasks.items() if task["try_number"] > 1}
    if server == "redis":
        # Tasks that could not be sent waited, and used up no try.
        assert not again
    log.info("%s: the run went on after %.1f s; tried again: %s", server, waited, again)
    run.promoted_once()
