"""Who started a run, and whether users are told apart at all."""

from __future__ import annotations

from typing import Any

from airflow.configuration import conf

_SIMPLE = "SimpleAuthManager"
# Roles of the Simple auth manager that may start runs and decide.
_ACTING = {"user", "op", "admin"}


def requester(context: Any) -> str | None:
    """The user who triggered the run; None for the schedule, a backfill of it, and an Asset."""
    name = getattr(context["dag_run"], "triggering_user_name", None)
    return str(name) if name else None


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
