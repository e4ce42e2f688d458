"""The ingest task; the run's note and the notifier name the files and rows that it refused."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context

from bc_airflow.notify import notify_refused_input
from bc_airflow.runs import run_of
from bc_pipeline import steps
from bc_pipeline.settings import load_settings


def ingest_and_notify(problem: str) -> dict[str, Any]:
    """Ingest the landed files; the notifier is called where files or rows were refused.

    With the Param ``land_outcomes`` the known outcomes of predictions are landed before. The task
    succeeds: the other rows are good, and `bc_airflow.run_note` writes the notes on the run.
    """
    context, settings, run = get_current_context(), load_settings(), run_of(problem)
    landed = (
        {"outcomes": steps.land_outcomes(settings, run)}
        if context["params"].get("land_outcomes")
        else {}
    )
    ingested = steps.ingest(settings, run) | landed
    if ingested.get("notes"):
        notify_refused_input(context, ingested)
    return ingested
