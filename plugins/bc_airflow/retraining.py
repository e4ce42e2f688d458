"""The task that ends a retrain where there is nothing new to train on."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context

from bc_airflow.conclude import skip
from bc_airflow.runs import run_of
from bc_pipeline import steps
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.settings import load_settings


def find_news_or_skip(problem: str, snapshot: dict[str, Any]) -> dict[str, Any]:
    """The snapshot, where there is something new in it or the Param ``train_anyway`` is on.

    Raises
    ------
    AirflowSkipException
        Where the champion was made of the same rows by the same code: all that follows is skipped.
    """
    anyway = bool(get_current_context()["params"].get("train_anyway"))
    news = steps.find_news(load_settings(), run_of(problem), snapshot["dataset"], anyway)
    if not news["new"]:
        skip(Conclusion.NOTHING_NEW, news["reason"])
    return snapshot
