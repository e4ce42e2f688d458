"""Backfill through Airflow's own command, followed to its end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bc_pipeline.airflow_api import FINAL_RUN_STATES, AirflowApi
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import ConfigError, StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import airflow_environment, program

START_SECONDS = 60.0
RETRY_SECONDS = 3.0


@dataclass(frozen=True)
class BackfilledRun:
    """How a run ended, and the version that it led to."""

    run_id: str
    state: str
    version: str | None


def run_backfill(
    settings: Settings,
    dag_id: str,
    first: datetime,
    last: datetime,
    *,
    rerun: bool,
    progress: Callable[[int, int], None],
) -> list[BackfilledRun]:
    """Create a backfill of a DAG and wait for its runs.

    Parameters
    ----------
    first, last : datetime
        Runs whose logical date lies between them, both included.
    rerun : bool
        Also run dates that have a finished run.

    Returns
    -------
    list of BackfilledRun
        By logical date.

    Raises
    ------
    ConfigError
        Where no complete week starts between the dates.
    StackError
        Where Airflow does not take the backfill.
    """
    _require_weeks(first, last)
    with AirflowApi.of(settings) as airflow:
        airflow.unpause(dag_id)
        _create(settings, dag_id, first, last, rerun=rerun)
        deadline = time.monotonic() + START_SECONDS
        while True:
            runs = _runs(airflow, dag_id, first, last)
            done = sum(state in FINAL_RUN_STATES for state in runs.values())
            progress(done, len(runs))
            over = time.monotonic() > deadline
            if done == len(runs) and (runs or over):
                return [
                    BackfilledRun(run_id, state, _version(airflow, dag_id, run_id))
                    for run_id, state in sorted(runs.items())
                ]
            time.sleep(1.0)


def _version(airflow: AirflowApi, dag_id: str, run_id: str) -> str | None:
    """The version that the run's gate judged; None where it did not come so far."""
    decision = airflow.returned(dag_id, run_id, "decide")
    return str(decision["version"]) if isinstance(decision, dict) else None


def _require_weeks(first: datetime, last: datetime) -> None:
    """A run's logical date is the Sunday on which its week starts."""
    sunday = first + timedelta(days=-first.isoweekday() % 7)
    if first > last:
        problem = "ends before it starts"
    elif sunday > last:
        problem = "has no Sunday in it, and a week starts on a Sunday"
    elif sunday + timedelta(weeks=1) > now():
        problem = "starts no week that is complete"
    else:
        return
    raise ConfigError(
        f"The backfill from {first:%Y-%m-%d} to {last:%Y-%m-%d} {problem}.",
        "Name days of the past, the first a Sunday.",
        setting="--from, --to",
    )


def _runs(airflow: AirflowApi, dag_id: str, first: datetime, last: datetime) -> dict[str, str]:
    found = airflow.runs(
        dag_id,
        run_type="backfill",
        logical_date_gte=format_time(first),
        logical_date_lte=format_time(last),
    )
    return {str(run["dag_run_id"]): str(run["state"]) for run in found}


def _create(
    settings: Settings, dag_id: str, first: datetime, last: datetime, *, rerun: bool
) -> None:
    command = [
        program("airflow"),
        "backfill",
        "create",
        *("--dag-id", dag_id),
        *("--from-date", first.isoformat()),
        *("--to-date", last.isoformat()),
        *("--max-active-runs", "1"),
        *("--reprocess-behavior", "completed" if rerun else "failed"),
    ]
    deadline = time.monotonic() + START_SECONDS
    while True:
        done = subprocess.run(
            command,
            env=airflow_environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        if not is_passing(done.stderr) or time.monotonic() > deadline:
            raise StackError(f"Airflow did not take the backfill: {reason(done.stderr)}")
        time.sleep(RETRY_SECONDS)


def is_passing(output: str) -> bool:
    """Whether what Airflow says against a backfill goes away by itself.

    It calls a backfill running for a while after its last run has ended; and the embedded
    database has one writer at a time.
    """
    return "AlreadyRunningBackfill" in output or "database is locked" in output


def reason(output: str) -> str:
    """The last line that says something: what follows it are footnotes."""
    lines = [line.strip() for line in output.splitlines()]
    footnotes = ("(Background on", "[SQL", "[parameters")
    telling = [line for line in lines if line and not line.startswith(footnotes)]
    return f"{telling[-1].rstrip('.')}." if telling else "it does not say why."
