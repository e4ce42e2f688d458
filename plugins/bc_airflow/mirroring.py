"""The last task of a run that decides about a version: it records the result in MLflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule

from bc_airflow.conclude import step
from bc_airflow.runs import run_of
from bc_pipeline import steps
from bc_pipeline.settings import load_settings


def record_in_mlflow(problem: str) -> Any:
    """Make the task; it runs also where tasks before it were skipped."""

    @step(
        task_display_name="Record in MLflow",
        trigger_rule=TriggerRule.NONE_FAILED,
        execution_timeout=timedelta(minutes=10),
    )
    def record() -> dict[str, Any]:
        return steps.record(load_settings(), run_of(problem))

    return record()
