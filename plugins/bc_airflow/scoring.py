"""The batch scoring task: score, or skip with the reason."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, get_current_context

from bc_airflow.conclude import conclude, skip
from bc_airflow.runs import run_of
from bc_pipeline import steps
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.errors import NoChampion, NotStored, counted
from bc_pipeline.settings import load_settings


def score_or_skip(problem: str, scores: Asset) -> dict[str, Any]:
    """Score the Param ``source``, or the worklist, and update the Asset of the scores.

    The Param ``engine`` chooses this machine or a Spark cluster.

    Raises
    ------
    AirflowSkipException
        Where there is no champion, or the worklist is empty.
    NotStored
        Where a named source does not exist.
    """
    context = get_current_context()
    params = context["params"]
    source = params.get("source")
    try:
        scored = steps.batch_score(
            load_settings(), run_of(problem), source=source, engine=params["engine"]
        )
    except NoChampion as error:
        skip(Conclusion.NO_CHAMPION, str(error))
    except NotStored as error:
        if source:
            raise
        skip(Conclusion.NOTHING_TO_SCORE, str(error))
    conclude(
        Conclusion.SCORED,
        f"{scored['scored']} of {counted(scored['read'], 'row')} by {scored['version']}, "
        f"{scored['rejected']} rejected: {scored['output']}.",
    )
    context["outlet_events"][scores].extra = {
        name: scored[name] for name in ("output", "version", "scored", "rejected")
    }
    return scored
