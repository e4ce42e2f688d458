"""Notification of failed tasks and refused input, without any data of patients."""

from __future__ import annotations

from typing import Any

from bc_pipeline.errors import PipelineError, counted
from bc_pipeline.settings import load_settings

_WEBHOOK_SECONDS = 5.0


def notify_failure(context: Any) -> None:
    """Log one structured line and post it to the webhook, where one is set.

    Only names are sent: an error's text may quote the input. Errors of the webhook are
    logged, and do not change the task's state.
    """
    import structlog

    event = describe_failure(context)
    structlog.get_logger("bc_airflow.notify").error("task_failed", **event)
    _deliver(event)


def notify_refused_input(context: Any, ingested: dict[str, Any]) -> None:
    """As `notify_failure`, for files, rows and batches that a successful task refused.

    Only counts are sent: a file's name may be a patient's. The run's note has the names.

    Parameters
    ----------
    ingested : dict
        Result of the ingest step.
    """
    import structlog

    task, files = context["ti"], len(ingested["refused"])
    rows = sum(batch["quarantined"] for batch in ingested["newly_quarantined"])
    held = len(ingested.get("held", ()))
    event = {
        "text": f"{task.dag_id}: {counted(files, 'landed file')} refused, "
        f"{counted(rows, 'row')} quarantined"
        + (f", {counted(held, 'batch', 'batches')} held" if held else ""),
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "files_refused": files,
        "rows_quarantined": rows,
        "batches_held": held,
        "error_codes": sorted({file["code"] for file in ingested["refused"]}),
        "log_url": task.log_url,
    }
    structlog.get_logger("bc_airflow.notify").warning("input_refused", **event)
    _deliver(event)


def _deliver(event: dict[str, Any]) -> None:
    """Post an event to the webhook, where one is set; its errors are logged."""
    import structlog

    url = load_settings().alert_webhook_url
    if url is not None:
        try:
            _post(url.get_secret_value(), event)
        except Exception as error:
            # The error's text could contain the URL, which is a secret.
            structlog.get_logger("bc_airflow.notify").error(
                "alert_not_delivered", error=type(error).__name__
            )


def describe_failure(context: Any) -> dict[str, Any]:
    """DAG, run, task and class of the error of a failed task."""
    task = context["ti"]
    error = context.get("exception")
    name = type(error).__name__ if isinstance(error, BaseException) else "unknown"
    return {
        "text": f"{task.dag_id}: task {task.task_id} failed ({name})",
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "try_number": task.try_number,
        "error": name,
        "error_code": error.code if isinstance(error, PipelineError) else None,
        "log_url": task.log_url,
    }


def _post(url: str, event: dict[str, Any]) -> None:
    import httpx

    httpx.post(url, json=event, timeout=_WEBHOOK_SECONDS).raise_for_status()
