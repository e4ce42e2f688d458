"""Defaults of every task: owner, retries, time limit, alert."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from bc_airflow.notify import notify_failure
from bc_pipeline.errors import PipelineError, TransientError

OWNER = "bc-pipeline"
# Early enough for a backfill over a year; catchup is off.
START = datetime(2025, 1, 5, tzinfo=UTC)
APPROVAL_TIMEOUT = timedelta(days=3)

# The first rule that matches decides. Errors outside the tree, such as a full disk, are
# retried as Airflow does by default.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=TransientError,
            action=RetryAction.RETRY,
            reason="The error is worth another try.",
        ),
        RetryRule(
            exception=PipelineError,
            action=RetryAction.FAIL,
            reason="The same input would fail again.",
        ),
    ],
    default=RetryAction.DEFAULT,
)


def task_defaults() -> dict[str, Any]:
    """``default_args`` of every DAG."""
    return {
        "owner": OWNER,
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 3,
        "max_retry_delay": timedelta(minutes=5),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": timedelta(minutes=30),
        "on_failure_callback": notify_failure,
    }
