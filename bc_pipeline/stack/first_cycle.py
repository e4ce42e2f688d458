"""Bring a running stack to its first champion, prediction and batch score; skip what is done.

`up` does it for the embedded stack, `cluster first-cycle` for the configured deployment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx

from bc_pipeline import steps
from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now, poll
from bc_pipeline.errors import AirflowAway, AirflowRefused, StackError, counted
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import http_client, service_url
from bc_pipeline.stack.credentials import read_secret
from bc_pipeline.stack.pools import POOLS

PARSE_SECONDS = 90.0
START_SECONDS = 20.0
RUN_SECONDS = 900.0
PICKUP_SECONDS = 10.0


# Receives the DAG of a run, its state and its tasks.
RunProgress = Callable[[str, str, list[dict[str, Any]]], None]


def last_week(moment: datetime) -> tuple[datetime, datetime]:
    """Return the last complete week, Sunday to Sunday in UTC: the weekly DAG's data interval."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight - timedelta(days=(midnight.weekday() + 1) % 7)
    return end - timedelta(days=7), end


def run_first_cycle(
    settings: Settings, report: Callable[[str], None], on_progress: RunProgress
) -> dict[str, Any]:
    """Bring a new stack to its first champion, prediction and batch score.

    Where they exist already, nothing is trained again: only a prediction is made.

    Returns
    -------
    dict
        ``prediction``: the service's answer; ``scores``: the newest batch score's folder.
    """
    problem = settings.service_problem
    store = Store.of(settings, problem)
    with AirflowApi.log_in(settings) as airflow:
        for dag_id in (f"{problem}_retrain", f"{problem}_batch_score"):
            airflow.wait_for_dag(dag_id, PARSE_SECONDS)
        for pool in POOLS:
            airflow.create_pool(*pool)
        if read_registry(store).production is None:
            landed = steps.land_demo(settings, problem)
            report(f"Landed the demo feed: {counted(landed['files'], 'file')}.")
            _first_retrain(airflow, problem, on_progress)
        prediction = _first_prediction(settings, store)
        report("The service answers with the champion.")
        if not any(store.scores.glob("*/*/manifest.json")):
            _first_batch_score(airflow, problem, on_progress)
    return {"prediction": prediction, "scores": steps.newest_scores(settings, problem)}


def wait_until_reachable(settings: Settings, seconds: float, report: Callable[[str], None]) -> None:
    """Wait until Airflow accepts the configured user and the service answers, be it with 503.

    Raises
    ------
    AirflowAway, StackError
        Where one of them does not answer in time, or Airflow rejects the user.
    """
    deadline = time.monotonic() + seconds
    while error := _connection_error(settings):
        if time.monotonic() > deadline:
            raise error
        report(error.message)
        time.sleep(1)


def _connection_error(settings: Settings) -> AirflowAway | StackError | None:
    """Return why Airflow or the service does not answer; None where both do."""
    try:
        with AirflowApi.log_in(settings):
            pass
    except AirflowAway as error:
        return error
    address = settings.service_url or service_url(settings)
    try:
        with http_client(settings, timeout=5.0) as client:
            client.get(f"{address}/health")
    except httpx.HTTPError:
        return StackError(
            f"The service at {address} does not answer.", "Start it, or correct BC_SERVICE_URL."
        )
    return None


def _first_retrain(airflow: AirflowApi, problem: str, on_progress: RunProgress) -> None:
    """Trigger the run of the last complete week and follow it.

    The run has the data interval that the weekly schedule would start with: the scheduler,
    once the DAG is unpaused, then finds it and does not create another.
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
    _follow(airflow, dag_id, run_id, on_progress)


def _first_batch_score(airflow: AirflowApi, problem: str, on_progress: RunProgress) -> None:
    """Unpause the daily scoring, which starts yesterday's run.

    Where it was unpaused already, a run is triggered.
    """
    dag_id = f"{problem}_batch_score"
    was_paused = (airflow.dag(dag_id) or {}).get("is_paused")
    known = {run["dag_run_id"] for run in airflow.runs(dag_id)}
    airflow.unpause(dag_id)
    for _ in poll(START_SECONDS if was_paused else 0, 0.5):
        if new := [r for r in airflow.runs(dag_id) if r["dag_run_id"] not in known]:
            run_id = str(new[0]["dag_run_id"])
            break
    else:
        run_id = airflow.trigger(dag_id, {"logical_date": None, "conf": {}})
    _follow(airflow, dag_id, run_id, on_progress)


def _follow(airflow: AirflowApi, dag_id: str, run_id: str, on_progress: RunProgress) -> None:
    state = ""
    tasks: list[dict[str, Any]] = []
    for state, tasks in airflow.follow(dag_id, run_id, RUN_SECONDS):
        on_progress(dag_id, state, tasks)
    if state != "success":
        failed = sorted({task["task_id"] for task in tasks if task["state"] == "failed"})
        raise StackError(
            f"{dag_id} run {run_id} failed in: {', '.join(failed) or 'no task'}.",
            f"See the task's log in Airflow's web UI, or {dag_id} in logs/airflow.",
        )


def _first_prediction(settings: Settings, store: Store) -> dict[str, Any]:
    """Request a prediction for one public row, once the service has loaded the champion."""
    problem = get_problem(store.problem)
    row = problem.load_reference().values[0]
    features = {name: float(value) for name, value in zip(problem.schema.names, row, strict=True)}
    registry = read_registry(store)
    champion = registry.production
    if champion is None:
        raise StackError(
            "The first retrain ended without a champion.",
            f"{registry.staging.version} awaits an approval, under Required Actions in Airflow."
            if registry.staging
            else "The run's note in Airflow says why.",
        )
    for _ in poll(PICKUP_SECONDS, 0.2):
        answer = _predict(settings, features)
        if answer.get("model_version") == champion.version:
            return answer
    raise StackError(
        f"The service has not loaded {champion.version}.", "See the log of the service."
    )


def _predict(settings: Settings, features: dict[str, float]) -> dict[str, Any]:
    url = f"{settings.service_url or service_url(settings)}/predict"
    headers = {"X-API-Key": read_secret(settings.api_key)}
    with http_client(settings, timeout=10.0) as client:
        try:
            answer = client.post(url, json=features, headers=headers).json()
        except (httpx.HTTPError, ValueError):
            return {}
    return answer if isinstance(answer, dict) else {}
