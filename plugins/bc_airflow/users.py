"""Who started a run, and whether users are told apart at all."""

from __future__ import annotations

from typing import Any

from airflow.configuration import conf

from bc_pipeline.promotion.approvals import AS_USER
from bc_pipeline.run_note import REQUESTED_BY, SERVICE_USER
from bc_pipeline.settings import load_settings

_LENGTH = 300
_SIMPLE = "SimpleAuthManager"
# Roles of the Simple auth manager that may start runs and decide.
_ACTING = {"user", "op", "admin"}


def requester(context: Any) -> str | None:
    """Who requested the run; None for the schedule, a backfill of it, and an Asset.

    That is the user of Airflow who triggered it. The user of the prediction service is believed
    about its caller, who comes first: ``hospital-a (API key 1f2e3d4c), as service``. What another
    user writes into the run's configuration counts for nothing.
    """
    run = context["dag_run"]
    user = str(getattr(run, "triggering_user_name", None) or "")
    caller = (run.conf or {}).get(REQUESTED_BY)
    if caller and isinstance(caller, str) and user in (SERVICE_USER, load_settings().airflow_user):
        return f"{caller[:_LENGTH]}{AS_USER}{user}"
    return user or None


def one_user() -> str:
    """Why requester and approver cannot be told apart; empty where they can.

    Then the one who started a run may also approve its model, and the audit log has this sentence.
    """
    if conf.get("core", "auth_manager").rpartition(".")[2] != _SIMPLE:
        return ""
    if conf.getboolean("core", "simple_auth_manager_all_admins"):
        return "Airflow lets everybody in as one administrator (simple_auth_manager_all_admins)."
    users = conf.get("core", "simple_auth_manager_users").split(",")
    acting = [
        name for name, _, role in (u.strip().partition(":") for u in users) if role in _ACTING
    ]
    if len(acting) <= 1:
        return f"Airflow's Simple auth manager has one user who may decide: {', '.join(acting)}."
    return ""
