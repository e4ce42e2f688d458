"""From Airflow's run to the one that the steps know."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import get_current_context

from bc_pipeline.artifacts.manifest import DagCode
from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.code import sources_digest
from bc_pipeline.steps import Run


def is_backfill(context: Any) -> bool:
    return str(context["dag_run"].run_type.value) == "backfill"


def run_of(problem: str) -> Run:
    """The current Airflow run.

    Its as-of time is the Param ``as_of``; without that the end of the data interval;
    without that, as in a manual run with no date, the moment the run was asked for.

    Raises
    ------
    ConfigError
        Where the Param is not a time.
    """
    context = get_current_context()
    dag_run, params = context["dag_run"], context["params"]
    asked = params.get("as_of")
    as_of = parse_time(asked) if asked else dag_run.data_interval_end or dag_run.run_after
    return Run(
        problem=problem,
        run_id=dag_run.run_id,
        as_of=format_time(as_of),
        interval_start=_text(dag_run.data_interval_start),
        interval_end=_text(dag_run.data_interval_end),
        live=not is_backfill(context) or bool(params.get("promote_backfill")),
        looks_back=is_backfill(context),
        dag=dag_code(context),
    )


def dag_code(context: Any) -> DagCode:
    """Which code of the DAG this task runs: the very files, and what Airflow calls them."""
    task = context["ti"]
    # `dag.test()` runs a DAG that it has at hand, from no bundle.
    bundle = getattr(task, "bundle_instance", None)
    return DagCode(
        dag_id=task.dag_id,
        version_id=str(task.dag_version_id),
        bundle=bundle.name if bundle else None,
        bundle_version=bundle.version if bundle else None,
        sha256=sources_digest(Path(__file__).parent, [Path(context["dag"].fileloc)]),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
