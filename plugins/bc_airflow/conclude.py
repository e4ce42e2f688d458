"""The named result of a run, which a task pushes and the scheduler writes on the run's page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from bc_airflow.run_note import CONCLUSION_KEY
from bc_pipeline.conclusion import Conclusion, conclusion_of
from bc_pipeline.errors import PipelineError


def conclude(conclusion: Conclusion, reason: str) -> None:
    """Say how the run ends; the last task that says so decides."""
    value = {"conclusion": str(conclusion), "reason": reason}
    get_current_context()["ti"].xcom_push(key=CONCLUSION_KEY, value=value)


def skip(conclusion: Conclusion, reason: str) -> NoReturn:
    """Skip the task, and end the run with this result."""
    conclude(conclusion, reason)
    raise AirflowSkipException(reason)


def step(**arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """A task that calls a step: one XCom for its result, and a named result where it fails."""

    def decorate(function: Callable[..., Any]) -> Any:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except PipelineError as error:
                conclude(conclusion_of(error), str(error))
                raise

        return task(multiple_outputs=False, **arguments)(call)

    return decorate
