"""The steps' `Run` of an Airflow run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import get_current_context

from bc_airflow.users import requester
from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.clock import checked_time, format_time
from bc_pipeline.code_version import sources_digest
from bc_pipeline.steps import Run

_OF_AN_INTERVAL = {"scheduled", "backfill"}


def is_backfill(context: Any) -> bool:
    return str(context["dag_run"].run_type.value) == "backfill"


def interval_of(dag_run: Any) -> tuple[datetime | None, datetime | None]:
    """The data interval that a run is for; none for a run that somebody triggered as of now.

    The trigger form sends a logical date in any case, and Airflow derives the last interval from
    it. A run that is meant for an interval is due at its end.
    """
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    is_scheduled = str(dag_run.run_type.value) in _OF_AN_INTERVAL
    return (start, end) if is_scheduled or end == dag_run.run_after else (None, None)


def run_of(problem: str) -> Run:
    """The current Airflow run.

    Its as-of time is the Param ``as_of``; by default the end of the data interval in a scheduled
    or backfilled run, and in any other the moment of triggering.

    Raises
    ------
    ConfigError
        Where the Param is not a time; where one of the run's times is more than a day ahead of
        the clock, or before 1900.
    """
    context = get_current_context()
    dag_run, params = context["dag_run"], context["params"]
    param = params.get("as_of")
    start, end = interval_of(dag_run)
    name = "as_of" if param else "The end of the run's data interval" if end else "The run's time"
    as_of = checked_time(param or end or dag_run.run_after, name)
    return Run(
        problem=problem,
        run_id=dag_run.run_id,
        as_of=format_time(as_of),
        interval_start=_text(start, "The start of the run's data interval"),
        interval_end=_text(end, "The end of the run's data interval"),
        live=not is_backfill(context) or bool(params.get("promote_backfill")),
        looks_back=is_backfill(context),
        dag=dag_code(context),
        requires_approval=bool(params.get("require_approval")),
        requested_by=requester(context),
    )


def dag_code(context: Any) -> DagCode:
    """The code of the DAG that this task runs: Airflow's names and a digest of the files."""
    task = context["ti"]
    # `dag.test()` runs a DAG without a bundle.
    bundle = getattr(task, "bundle_instance", None)
    return DagCode(
        dag_id=task.dag_id,
        version_id=str(task.dag_version_id),
        bundle=bundle.name if bundle else None,
        bundle_version=bundle.version if bundle else None,
        sha256=sources_digest(Path(__file__).parent, [Path(context["dag"].fileloc)]),
    )


def _text(moment: datetime | None, name: str) -> str | None:
    return None if moment is None else format_time(checked_time(moment, name))
