"""Prepare Airflow's metadata database, as a program that `bc-pipeline cluster init` starts.

``python -m bc_airflow.deployment`` reads one request, a JSON object, from standard input and
answers on standard output with JSON objects, one a line. What else is printed goes to standard
error. It reads passwords from files, so that no argument or environment variable holds one.
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
    """Do what the request asks."""
    # Airflow and its libraries print to standard output: only answers may go there.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    request = json.load(sys.stdin)
    {"wait": wait, "apply": apply}[request.pop("do")](answer=answer, **request)


def wait(seconds: float, answer: Answer) -> None:
    """Try the metadata database until it answers, for a number of seconds at most."""
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
    """The driver's words in one line, without the statement and its parameters."""
    told = str(getattr(error, "orig", None) or type(error).__name__)
    return " ".join(told.split()).rstrip(".")


def apply(
    pools: list[list[Any]],
    connections: str | None,
    admin: list[str],
    service: list[str] | None,
    retrains: list[str],
    answer: Answer,
) -> None:
    """Make pools, connections and users; what is there as it should be stays.

    Users are given as a name and the file of a password: the administrator, and the one that
    may start the DAGs ``retrains``, where there is to be one.

    Another machine may do the same at the same time: where it was faster with a row, the
    database refuses ours, and the next try finds that row.
    """
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded
    from airflow.utils.session import create_session
    from sqlalchemy.exc import IntegrityError

    @providers_configuration_loaded
    def once() -> dict[str, Any]:
        with create_session() as session:
            made = {
                "pools": make_pools(session, pools),
                "connections": make_connections(session, connections),
            }
        return made | make_users(admin, service, retrains)

    for left in reversed(range(_TRIES)):
        try:
            answer(once())
            return
        except IntegrityError:
            if not left:
                raise
            time.sleep(_PAUSE_SECONDS)


def make_pools(session: Any, pools: list[list[Any]]) -> dict[str, str]:
    """Each pool with the slots that the project says; tells what was done about it."""
    from airflow.models.pool import Pool
    from sqlalchemy import select

    done = {}
    for name, slots, description in pools:
        found = session.scalar(select(Pool).filter_by(pool=name))
        if found is None:
            session.add(
                Pool(pool=name, slots=slots, description=description, include_deferred=False)
            )
        elif found.slots == slots:
            done[name] = "kept"
            continue
        else:
            found.slots = slots
        done[name] = "changed" if found else "made"
    return done


def make_connections(session: Any, path: str | None) -> dict[str, str]:
    """Every connection of the file, which counts: one that differs in the database is replaced."""
    if path is None:
        return {}
    from airflow.models.connection import Connection
    from airflow.secrets.local_filesystem import load_connections_dict
    from sqlalchemy import select

    done = {}
    for name, asked in load_connections_dict(path).items():
        found = session.scalar(select(Connection).filter_by(conn_id=name))
        if found is None:
            session.add(asked)
            done[name] = "made"
        elif found.as_json() == asked.as_json():
            done[name] = "kept"
        else:
            asked.id = found.id
            session.merge(asked)
            done[name] = "changed"
    return done


def make_users(admin: list[str], service: list[str] | None, retrains: list[str]) -> dict[str, str]:
    """The administrator, and the one that the prediction service starts retrains as.

    Only where Airflow keeps users itself, which it does with the FAB auth manager.
    """
    from airflow.configuration import conf

    asked = {"user": admin} | ({"service_user": service} if service else {})
    manager = conf.get("core", "auth_manager").rpartition(".")[2]
    if manager != FAB:
        return dict.fromkeys(asked, f"left to {manager}")
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        users = builder.sm
        done = {"user": make_user(users, *admin, users.find_role(ADMIN_ROLE))}
        if service:
            role, as_it_was = make_role(users, RETRAIN_ROLE, retrain_permissions(retrains))
            told = make_user(users, *service, role)
            done["service_user"] = told if as_it_was or told == "made" else "changed"
        return done


def retrain_permissions(dags: list[str]) -> set[tuple[str, str]]:
    """What starting runs of these DAGs and following them needs, and no more.

    Neither tasks nor runs can be changed, and no approval be given. To start a run Airflow
    wants the right to edit its DAG, by which it can be paused too.
    """
    everywhere = {("can_read", "DAG Runs"), ("can_read", "Task Instances")}
    # Airflow gives it to each role of one's own, at each of its starts.
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
    """The role with these permissions, pairs of action and resource, and no other.

    Returns
    -------
    tuple
        The role, and whether it was so already.
    """
    role = users.add_role(name)
    found = {(each.action.name, each.resource.name): each for each in role.permissions}
    for pair in found.keys() - wanted:
        users.remove_permission_from_role(role, found[pair])
    for action, resource in sorted(wanted - found.keys()):
        users.add_permission_to_role(role, users.create_permission(action, resource))
    return role, found.keys() == wanted


def make_user(users: Any, name: str, password_file: str, role: Any) -> str:
    """A user with this role alone, and the password that the file holds."""
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
    done = "kept"
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
