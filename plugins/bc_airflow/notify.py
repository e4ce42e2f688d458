"""Tell people that a task failed, without telling them anything about a patient."""

from __future__ import annotations

from typing import Any

from bc_pipeline.errors import PipelineError
from bc_pipeline.settings import load_settings

_WEBHOOK_SECONDS = 5.0


def notify_failure(context: Any) -> None:
    """Log one structured line and post it to the webhook, where one is set.

    Only names leave the machine: an error's text may quote the input. A webhook that does
    not answer is logged; it never changes what became of the task.
    """
    import structlog

    log = structlog.get_logger("bc_airflow.notify")
    event = describe_failure(context)
    log.error("task_failed", **event)
    url = load_settings().alert_webhook_url
    if url is not None:
        try:
            _post(url.get_secret_value(), event)
        except Exception as error:
            # The text of the error could hold the URL, which is a secret.
            log.error("alert_not_delivered", error=type(error).__name__)


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
