"""From a stack that runs to its first champion, prediction and batch score; only what is not done.

`up` does it with the embedded stack, `cluster first-cycle` with the one that the settings name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

import httpx

from bc_pipeline import steps
from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import AirflowAway, AirflowRefused, StackError
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import service_trust, service_url
from bc_pipeline.stack.pools import POOLS
from bc_pipeline.stack.secrets import read_secret

PARSE_SECONDS = 90.0
START_SECONDS = 20.0
RUN_SECONDS = 900.0
PICKUP_SECONDS = 10.0


class Watcher(Protocol):
    """Who is told of a run's progress."""

    def __call__(self, dag_id: str, state: str, tasks: list[dict[str, Any]], /) -> None: ...


def last_week(moment: datetime) -> tuple[datetime, datetime]:
    """The last complete week, Sunday to Sunday in UTC: the interval of the weekly DAG."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight - timedelta(days=(midnight.weekday() + 1) % 7)
    return end - timedelta(days=7), end


def run_first_cycle(
    settings: Settings, tell: Callable[[str], None], watch: Watcher
) -> dict[str, Any]:
    """Bring a new stack to its first champion, prediction and batch score.

    On a stack that has them nothing is trained again: it predicts once, and reports.

    Returns
    -------
    dict
        ``prediction``: the service's answer; ``scores``: the newest batch score's folder.
    """
    problem = settings.service_problem
    store = Store(settings.home, problem)
    with AirflowApi.of(settings) as airflow:
        for dag_id in (f"{problem}_retrain", f"{problem}_batch_score"):
            airflow.wait_for_dag(dag_id, PARSE_SECONDS)
        for pool in POOLS:
            airflow.make_pool(*pool)
        if read_registry(store).production is None:
            landed = steps.land_demo(problem)
            tell(f"Landed the demo feed: {landed['files']} files.")
            _first_retrain(airflow, problem, watch)
        prediction = _first_prediction(settings, store)
        tell("The service answers with the champion.")
        if not any(store.scores.glob("*/*/manifest.json")):
            _first_batch_score(airflow, problem, watch)
    return {"prediction": prediction, "scores": steps.newest_scores(problem)}


def wait_until_reached(settings: Settings, seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until Airflow lets the settings' user in, and the service answers: a 503 will do.

    Raises
    ------
    AirflowAway, StackError
        Where one of them does not come in time, or Airflow refuses the user.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            AirflowApi.of(settings).client.close()
            break
        except AirflowAway as error:
            if time.monotonic() > deadline:
                raise
            tell(error.message)
            time.sleep(1)
    address = settings.service_url or service_url(settings)
    while not _reached(settings, f"{address}/health"):
        if time.monotonic() > deadline:
            raise StackError(
                f"The service at {address} does not answer.",
                "Start it, or correct BC_SERVICE_URL.",
            )
        tell(f"The service at {address} does not answer.")
        time.sleep(1)


def _reached(settings: Settings, url: str) -> bool:
    try:
        httpx.get(url, timeout=5.0, trust_env=False, verify=service_trust(settings))
    except httpx.HTTPError:
        return False
    return True


def _first_retrain(airflow: AirflowApi, problem: str, watch: Watcher) -> None:
    """Trigger the run of the last complete week and follow it.

    It takes the very data interval that the weekly schedule would start with, so that the
    scheduler, once the DAG is unpaused, finds this run and does not add one of its own.
    """
    dag_id = f"{problem}_retrain"
    start, end = last_week(now())
    body = {
        "logical_date": format_time(start),
        "data_interval_start": format_time(start),
        "data_interval_end": format_time(end),
        "run_after": format_time(end),
        "conf": {},
    }
    try:
        run_id = airflow.trigger(dag_id, body)
    except AirflowRefused as refusal:
        if refusal.status != httpx.codes.CONFLICT:
            raise
        run_id = str(airflow.runs(dag_id)[0]["dag_run_id"])
    airflow.unpause(dag_id)
    _follow(airflow, dag_id, run_id, watch)


def _first_batch_score(airflow: AirflowApi, problem: str, watch: Watcher) -> None:
    """Switch the daily scoring on; the scheduler then starts yesterday's run by itself.

    Where it was on already, a run is asked for.
    """
    dag_id = f"{problem}_batch_score"
    was_paused = (airflow.dag(dag_id) or {}).get("is_paused")
    known = {run["dag_run_id"] for run in airflow.runs(dag_id)}
    airflow.unpause(dag_id)
    deadline = time.monotonic() + (START_SECONDS if was_paused else 0)
    while not (new := [r for r in airflow.runs(dag_id) if r["dag_run_id"] not in known]):
        if time.monotonic() > deadline:
            new = [{"dag_run_id": airflow.trigger(dag_id, {"logical_date": None, "conf": {}})}]
            break
        time.sleep(0.5)
    _follow(airflow, dag_id, str(new[0]["dag_run_id"]), watch)


def _follow(airflow: AirflowApi, dag_id: str, run_id: str, watch: Watcher) -> None:
    state = ""
    tasks: list[dict[str, Any]] = []
    for state, tasks in airflow.follow(dag_id, run_id, RUN_SECONDS):
        watch(dag_id, state, tasks)
    if state != "success":
        failed = sorted({task["task_id"] for task in tasks if task["state"] == "failed"})
        raise StackError(
            f"{dag_id} run {run_id} failed in: {', '.join(failed) or 'no task'}.",
            f"See the task's log in Airflow's web UI, or {dag_id} in logs/airflow.",
        )


def _first_prediction(settings: Settings, store: Store) -> dict[str, Any]:
    """Ask the service about one public row, once it has picked the champion up."""
    problem = get_problem(store.problem)
    row = problem.load_reference().values[0]
    features = {name: float(value) for name, value in zip(problem.schema.names, row, strict=True)}
    champion = read_registry(store).production
    if champion is None:
        raise StackError(
            "The first retrain ended without a champion.",
            f"See why: bc-pipeline verdict --problem {store.problem}.",
        )
    deadline = time.monotonic() + PICKUP_SECONDS
    while True:
        answer = _ask(settings, features)
        if answer.get("model_version") == champion.version:
            return answer
        if time.monotonic() > deadline:
            raise StackError(
                f"The service has not picked up {champion.version}.", "See the log of the service."
            )
        time.sleep(0.2)


def _ask(settings: Settings, features: dict[str, float]) -> dict[str, Any]:
    try:
        response = httpx.post(
            f"{settings.service_url or service_url(settings)}/predict",
            json=features,
            headers={"X-API-Key": read_secret(settings.api_key)},
            timeout=10.0,
            trust_env=False,
            verify=service_trust(settings),
        )
    except httpx.HTTPError:
        return {}
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
