"""Create a backfill in Airflow, and wait for its runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from bc_pipeline.airflow_api import FINAL_RUN_STATES, AirflowApi
from bc_pipeline.clock import format_time, now, poll
from bc_pipeline.errors import AirflowRefused, ConfigError, NothingAsOf, StackError
from bc_pipeline.settings import Settings

START_SECONDS = 60.0
RETRY_SECONDS = 3.0
# The embedded Airflow waits 60 s for its database before it answers that it is busy.
ANSWER_SECONDS = 90.0
# Airflow reports a backfill as running for a while after its last run has ended, and the
# embedded database allows one writer at a time.
_TRANSIENT = (httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE)


@dataclass(frozen=True)
class BackfilledRun:
    """Final state of a run, and the version that it made."""

    run_id: str
    state: str
    version: str | None


def run_backfill(
    settings: Settings,
    dag_id: str,
    first: datetime,
    last: datetime,
    *,
    data_since: datetime | None,
    rerun: bool,
    progress: Callable[[int, int], None],
    notify: Callable[[str], None],
) -> list[BackfilledRun]:
    """Create a backfill of a DAG and wait for its runs.

    A paused DAG runs while the backfill does, and is paused again afterwards.

    Parameters
    ----------
    first, last : datetime
        Range of logical dates, both inclusive.
    data_since : datetime or None
        When the first rows arrived; None where there are none.
    rerun : bool
        Whether to run dates again that have a finished run.
    progress : callable
        Called with the number of runs that have ended, and of all.
    notify : callable
        Called with a sentence for the user.

    Returns
    -------
    list of BackfilledRun
        By logical date.

    Raises
    ------
    ConfigError
        Where no complete week starts between the dates, or the first ends before the first rows
        arrived.
    NothingAsOf
        Where no rows have arrived at all.
    StackError
        Where Airflow rejects the backfill.
    """
    _require_weeks(first, last)
    _require_data(first, last, data_since)
    with (
        AirflowApi.log_in(settings, timeout=ANSWER_SECONDS) as airflow,
        _unpaused(airflow, dag_id, notify),
    ):
        before = _runs(airflow, dag_id, first, last)
        create(airflow, dag_id, first, last, rerun=rerun, notify=notify)
        runs = _wait(airflow, dag_id, first, last, progress)
        if runs == before and not rerun and set(runs.values()) == {"success"}:
            notify("Every week was backfilled before, so nothing was run; --rerun runs them again.")
        return [
            BackfilledRun(run_id, state, _version(airflow, dag_id, run_id))
            for run_id, state in sorted(runs.items())
        ]


@contextmanager
def _unpaused(airflow: AirflowApi, dag_id: str, notify: Callable[[str], None]) -> Iterator[None]:
    """Run a paused DAG for a while: Airflow starts no run of a paused one, backfills included."""
    was_paused = airflow.is_paused(dag_id)
    if was_paused:
        notify(
            f"{dag_id} is paused: it runs during the backfill, its schedule too, and is paused "
            "again afterwards."
        )
        airflow.unpause(dag_id)
    try:
        yield
    finally:
        if was_paused:
            airflow.set_paused(dag_id, paused=True)


def _wait(
    airflow: AirflowApi,
    dag_id: str,
    first: datetime,
    last: datetime,
    progress: Callable[[int, int], None],
) -> dict[str, str]:
    """Wait for the runs of a backfill; their states."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        runs = _runs(airflow, dag_id, first, last)
        done = sum(state in FINAL_RUN_STATES for state in runs.values())
        progress(done, len(runs))
        if done == len(runs) and (runs or time.monotonic() > deadline):
            return runs
        time.sleep(1.0)


def _version(airflow: AirflowApi, dag_id: str, run_id: str) -> str | None:
    """Return the version that won in the run; None where the run failed before.

    Runs of release 0.1.0 had one challenger, and no task `choose`.
    """
    decision = airflow.task_result(dag_id, run_id, "choose") or airflow.task_result(
        dag_id, run_id, "decide"
    )
    return str(decision["version"]) if isinstance(decision, dict) else None


def _require_weeks(first: datetime, last: datetime) -> None:
    """Require a complete week: the logical date of a run is the Sunday that starts it."""
    sunday = _next_sunday(first)
    if first > last:
        reason = "ends before it starts"
    elif sunday > last:
        reason = "has no Sunday in it, and a week starts on a Sunday"
    elif sunday + timedelta(weeks=1) > now():
        reason = "starts no week that is complete"
    else:
        return
    raise ConfigError(
        f"The backfill from {first:%Y-%m-%d} to {last:%Y-%m-%d} {reason}.",
        "Name days of the past, the first a Sunday.",
        setting="--from, --to",
    )


def _require_data(first: datetime, last: datetime, data_since: datetime | None) -> None:
    """Require rows at the end of the first week, which is the time that its run trains as of."""
    if data_since is not None and data_since <= _next_sunday(first) + timedelta(weeks=1):
        return
    backfill = f"The backfill from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    if data_since is None:
        raise NothingAsOf(
            f"{backfill} has no data: no rows have arrived.",
            "Land a labelled file and ingest it.",
            as_of=format_time(last),
        )
    # The first week whose end is not before the arrival of the rows.
    day = data_since.replace(hour=0, minute=0, second=0, microsecond=0)
    end = _next_sunday(day if day == data_since else day + timedelta(days=1))
    start = end - timedelta(weeks=1)
    raise ConfigError(
        f"{backfill} starts before the data: the first rows arrived on {data_since:%Y-%m-%d}.",
        f"Start with the week of {start:%Y-%m-%d}: --from {start:%Y-%m-%d}.",
        setting="--from",
    )


def _next_sunday(day: datetime) -> datetime:
    """The Sunday on or after a day."""
    return day + timedelta(days=-day.isoweekday() % 7)


def _runs(airflow: AirflowApi, dag_id: str, first: datetime, last: datetime) -> dict[str, str]:
    runs = airflow.runs(
        dag_id,
        run_type="backfill",
        logical_date_gte=format_time(first),
        logical_date_lte=format_time(last),
    )
    return {str(run["dag_run_id"]): str(run["state"]) for run in runs}


def create(
    airflow: AirflowApi,
    dag_id: str,
    first: datetime,
    last: datetime,
    *,
    rerun: bool,
    notify: Callable[[str], None],
) -> None:
    """Create a backfill, once the one before has ended; `notify` is told that it waits for that.

    Raises
    ------
    StackError
        Where Airflow rejects it.
    """
    body = {
        "dag_id": dag_id,
        "from_date": first.isoformat(),
        "to_date": last.isoformat(),
        "max_active_runs": 1,
        "reprocess_behavior": "completed" if rerun else "failed",
    }
    waits = False
    for _ in poll(START_SECONDS, RETRY_SECONDS):
        try:
            airflow.create_backfill(body)
            return
        except AirflowRefused as refusal:
            reason = refusal.message
            if refusal.status not in _TRANSIENT:
                break
        if not waits:
            waits = True
            notify(f"Airflow takes no backfill yet ({reason.rstrip('.')}); waiting for it.")
    raise StackError(f"Airflow rejected the backfill: {reason}")
