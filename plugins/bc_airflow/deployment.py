"""Prepare Airflow's metadata database, as a program that `bc-pipeline cluster init` starts.

``python -m bc_airflow.deployment`` reads one request, a JSON object, from standard input and
writes JSON objects to standard output, one a line; all other output goes to standard error.
Passwords are read from files: arguments and environment variables are visible to others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = Callable[[dict[str, Any]], None]

FAB = "FabAuthManager"
ADMIN_ROLE = "Admin"
RETRAIN_ROLE = "Retrain"
_PAUSE_SECONDS = 1.0
_TRIES = 3


def main() -> None:
    """Run the request."""
    # Airflow and its libraries print to standard output: only answers may go there.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    request = json.load(sys.stdin)
    {"wait": wait, "apply": apply}[request.pop("do")](answer=answer, **request)


def wait(seconds: float, answer: Answer) -> None:
    """Wait until the metadata database answers, for a number of seconds at most."""
    from airflow.utils.db import check
    from sqlalchemy.exc import SQLAlchemyError

    deadline = time.monotonic() + seconds
    while True:
        try:
            check()
        except SQLAlchemyError as error:
            if time.monotonic() > deadline:
                answer({"problem": f"The metadata database does not answer: {reason(error)}."})
                return
            answer({"waiting": reason(error)})
            time.sleep(_PAUSE_SECONDS)
        else:
            answer({"database": "answers"})
            return


def reason(error: BaseException) -> str:
    """The driver's message in one line, without the statement and its parameters."""
    message = str(getattr(error, "orig", None) or type(error).__name__)
    return " ".join(message.split()).rstrip(".")


def apply(
    pools: list[list[Any]],
    connections: str | None,
    admin: list[str],
    service: list[str] | None,
    retrains: list[str],
    answer: Answer,
) -> None:
    """Make or update pools, connections and users.

    Another machine may run this at the same time: where both add a row, the database refuses
    one, and the next try finds the row.

    Parameters
    ----------
    admin, service : list of str
        Name and password file of the administrator, and of the user that may start the DAGs
        ``retrains``.
    """
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded
    from airflow.utils.session import create_session
    from sqlalchemy.exc import IntegrityError

    @providers_configuration_loaded
    def once() -> dict[str, Any]:
        with create_session() as session:
            done = {
                "pools": make_pools(session, pools),
                "connections": make_connections(session, connections),
            }
        return done | make_users(admin, service, retrains)

    for remaining in reversed(range(_TRIES)):
        try:
            answer(once())
            return
        except IntegrityError:
            if not remaining:
                raise
            time.sleep(_PAUSE_SECONDS)


def make_pools(session: Any, pools: list[list[Any]]) -> dict[str, str]:
    """Make or update pools; returns the change of each."""
    from airflow.models.pool import Pool
    from sqlalchemy import select

    done = {}
    for name, slots, description in pools:
        pool = session.scalar(select(Pool).filter_by(pool=name))
        if pool is None:
            session.add(
                Pool(pool=name, slots=slots, description=description, include_deferred=False)
            )
        elif pool.slots == slots:
            done[name] = "unchanged"
            continue
        else:
            pool.slots = slots
        done[name] = "changed" if pool else "made"
    return done


def make_connections(session: Any, path: str | None) -> dict[str, str]:
    """Make or replace the connections of the file; returns the change of each."""
    if path is None:
        return {}
    from airflow.models.connection import Connection
    from airflow.secrets.local_filesystem import load_connections_dict
    from sqlalchemy import select

    done = {}
    for name, wanted in load_connections_dict(path).items():
        stored = session.scalar(select(Connection).filter_by(conn_id=name))
        if stored is None:
            session.add(wanted)
            done[name] = "made"
        elif stored.as_json() == wanted.as_json():
            done[name] = "unchanged"
        else:
            wanted.id = stored.id
            session.merge(wanted)
            done[name] = "changed"
    return done


def make_users(admin: list[str], service: list[str] | None, retrains: list[str]) -> dict[str, str]:
    """Make or update the administrator, and the user of the prediction service.

    Only with the FAB auth manager: others store their users elsewhere.
    """
    from airflow.configuration import conf

    users = {"user": admin} | ({"service_user": service} if service else {})
    name = conf.get("core", "auth_manager").rpartition(".")[2]
    if name != FAB:
        return dict.fromkeys(users, f"left to {name}")
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        manager = builder.sm
        done = {"user": make_user(manager, *admin, manager.find_role(ADMIN_ROLE))}
        if service:
            role, unchanged = make_role(manager, RETRAIN_ROLE, retrain_permissions(retrains))
            change = make_user(manager, *service, role)
            done["service_user"] = change if unchanged or change == "made" else "changed"
        return done


def retrain_permissions(dags: list[str]) -> set[tuple[str, str]]:
    """The permissions to start runs of these DAGs and to follow them, and no others.

    They allow no change of tasks or runs, and no approval. Starting a run requires the
    permission to edit its DAG, which also allows pausing it.
    """
    everywhere = {("can_read", "DAG Runs"), ("can_read", "Task Instances")}
    # Airflow adds it to every custom role when it starts.
    everywhere.add(("can_read", "Website"))
    return everywhere.union(
        *(
            {
                ("can_read", f"DAG:{dag}"),
                ("can_edit", f"DAG:{dag}"),
                ("can_create", f"DAG Run:{dag}"),
            }
            for dag in dags
        )
    )


def make_role(users: Any, name: str, wanted: set[tuple[str, str]]) -> tuple[Any, bool]:
    """Make or update a role with exactly these permissions, pairs of action and resource.

    Returns
    -------
    tuple
        The role, and whether it was unchanged.
    """
    role = users.add_role(name)
    present = {(each.action.name, each.resource.name): each for each in role.permissions}
    for pair in present.keys() - wanted:
        users.remove_permission_from_role(role, present[pair])
    for action, resource in sorted(wanted - present.keys()):
        users.add_permission_to_role(role, users.create_permission(action, resource))
    return role, present.keys() == wanted


def make_user(users: Any, name: str, password_file: str, role: Any) -> str:
    """Make or update a user with this role alone and the password in the file."""
    from airflow.providers.fab.auth_manager.security_manager.override import FabException
    from werkzeug.security import check_password_hash

    password = Path(password_file).read_text(encoding="utf-8").strip()
    user = users.find_user(name)
    if user is None:
        try:
            users.add_user(name, name, role.name, f"{name}@localhost", role, password)
        except FabException:
            user = users.find_user(name)
            if user is None:
                raise
        else:
            return "made"
    done = "unchanged"
    if {each.name for each in user.roles} != {role.name}:
        user.roles = [role]
        users.update_user(user)
        done = "changed"
    if not check_password_hash(user.password, password):
        users.reset_password(user.id, password)
        done = "changed"
    return done


if __name__ == "__main__":
    main()
