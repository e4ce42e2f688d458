"""Tells a running Airflow of a release that no DAG made, so that batch scoring follows."""

from __future__ import annotations

from bc_pipeline.airflow_api import AirflowApi
from bc_pipeline.errors import AirflowAway, StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import with_running_ports

SECONDS = 15.0


def update_champion_asset(settings: Settings, problem: str, version: str, generation: int) -> str:
    """Create the event that the DAG's task *Promote* creates.

    Returns
    -------
    str
        Why there is no event; empty where there is one.
    """
    try:
        with AirflowApi.log_in(with_running_ports(settings), 5.0, SECONDS) as airflow:
            extra = {"version": version, "generation": generation}
            known = airflow.update_asset(f"{problem}_champion", extra)
    except (AirflowAway, StackError) as error:
        return error.message
    return "" if known else f"Airflow has no Asset {problem}_champion."
