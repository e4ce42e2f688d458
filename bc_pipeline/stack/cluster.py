"""Prepare a deployment of many processes or machines; what is prepared already stays.

The stack that `up` starts prepares itself. A cluster, whose processes are started by Compose,
Kubernetes or hand, is prepared by this once, and again with each release. Airflow is reached
by its own environment variables.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.errors import ConfigError, PipelineError
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.settings import Settings
from bc_pipeline.stack import airflow_programs
from bc_pipeline.stack.pools import POOLS
from bc_pipeline.stack.secrets import make_keys, make_password
from bc_pipeline.stack.shared_volume import Owner, give, make_folders
from bc_pipeline.stack.upgrade import upgrade_volume

# Each process of Airflow must have the same: one that makes up its own cannot read what
# another has written or signed.
SHARED_OPTIONS = (
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
)
# As whom the prediction service asks Airflow for a retrain.
SERVICE_USER = "service"
CONNECTION_FILES = (".json", ".yaml", ".yml", ".env")
# Longer than another machine's migration takes.
LOCK_SECONDS = 1800.0


def prepare(
    settings: Settings,
    tell: Callable[[str], None],
    *,
    owner: Owner,
    connections: Path | None,
    service_password: Path | None,
    seconds: float,
) -> dict[str, Any]:
    """Volume, keys, Airflow's tables, pools, connections and users.

    Parameters
    ----------
    tell : callable
        Told what is being done, and what the database says while it does not answer.
    owner : Owner
        Of everything on the volume; given only by root.
    connections : Path or None
        File of connections in the form that Airflow imports.
    service_password : Path or None
        File of the password of a user who may start retrains and see them; None: no such user.
    seconds : float
        How long to wait for the metadata database.

    Returns
    -------
    dict
        What was done about each thing: ``made``, ``changed`` or ``kept``.

    Raises
    ------
    ConfigError
        With everything that is not as needed, before anything of Airflow's is touched.
    StackError
        Where the database does not answer, or a program of Airflow's fails.
    TransientError
        Where another machine prepares the same volume and does not come to an end.
    """
    problems = [
        *environment_problems(os.environ),
        *file_problems(settings, connections, service_password),
    ]
    try:
        make_directory(settings.home / "stack")
    except OSError as error:
        _refuse([*problems, _not_writable(settings, error)])
    tell("Waiting for the volume")
    with locked(settings.home / "stack" / ".init.lock", LOCK_SECONDS):
        tell("Preparing the volume")
        _refuse([*problems, *_prepare_volume(settings)])
        tell("Waiting for the metadata database")
        airflow_programs.wait_for_database(
            settings, seconds, lambda why: tell(f"Waiting for the metadata database: {why}")
        )
        tell("Migrating the metadata database")
        airflow_programs.migrate_database(settings)
        tell("Making pools, connections and users")
        done = airflow_programs.apply(
            settings,
            {
                "pools": [list(pool) for pool in POOLS],
                "connections": str(connections) if connections else None,
                "admin": [settings.airflow_user, str(settings.airflow_password)],
                "service": [SERVICE_USER, str(service_password)] if service_password else None,
                "retrains": [f"{problem.name}_retrain" for problem in PROBLEMS],
            },
        )
        given = give(settings, owner) if os.geteuid() == 0 else 0
    return {
        "volume": str(settings.home),
        "given": given,
        "verify_key": str(settings.verify_key),
        "api_key_file": str(settings.api_key),
        "password_file": str(settings.airflow_password),
        "user_name": settings.airflow_user,
        **done,
    }


def environment_problems(environment: Mapping[str, str]) -> Iterator[str]:
    """What is missing or cannot be read of the options that Airflow's processes share."""
    for option in SHARED_OPTIONS:
        # A hand-written configuration file may hold them; the one that Airflow makes up in
        # its home differs from machine to machine.
        names = (option, f"{option}_CMD", f"{option}_SECRET", "AIRFLOW_CONFIG")
        if not any(environment.get(name) for name in names):
            yield f"{option} is not set, nor {option}_CMD, which reads it from a file"
        command = shlex.split(environment.get(f"{option}_CMD", ""))
        if command[:1] == ["cat"]:
            yield from (
                f"{option}_CMD reads {path}, which {why}"
                for path in command[1:]
                if (why := _why_unreadable(Path(path)) or _why_unclean(Path(path)))
            )


def file_problems(
    settings: Settings, connections: Path | None, service_password: Path | None
) -> Iterator[str]:
    """What is wrong with the files that the settings and the caller name."""
    for folder in ("dags", "plugins", "expectations"):
        if not (settings.project_dir / folder).is_dir():
            yield f"BC_PROJECT_DIR, {settings.project_dir}, has no folder {folder}"
    password = settings.airflow_password
    if settings.airflow_password_file and (why := _why_unreadable(password)):
        yield f"BC_AIRFLOW_PASSWORD_FILE names {password}, which {why}"
    if service_password is not None:
        if why := _why_unreadable(service_password):
            yield f"the file of the service's password {service_password} {why}"
        elif settings.airflow_user == SERVICE_USER:
            yield f"BC_AIRFLOW_USER is {SERVICE_USER}, which is to be the lesser user's name"
    if connections is not None:
        if why := _why_unreadable(connections):
            yield f"the file of connections {connections} {why}"
        elif connections.suffix not in CONNECTION_FILES:
            yield f"the file of connections ends in none of {', '.join(CONNECTION_FILES)}"


def _why_unreadable(path: Path) -> str:
    try:
        return "" if path.read_bytes().strip() else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _why_unclean(path: Path) -> str:
    """Airflow takes all that a command prints for the secret."""
    data = path.read_bytes()
    return "begins or ends with white space or an end of line" if data != data.strip() else ""


def _prepare_volume(settings: Settings) -> Iterator[str]:
    """Upgrade it, make folders and keys; what cannot be made is named."""
    try:
        upgrade_volume(settings)
        make_folders(settings)
    except PipelineError as error:
        yield str(error).rstrip(".")
        return
    except OSError as error:
        yield _not_writable(settings, error)
        return
    try:
        make_password(settings.airflow_password)
        make_keys(settings)
    except PipelineError as error:
        yield str(error).rstrip(".")
    except OSError as error:
        yield f"{error.filename or 'a key'} cannot be made: {error.strerror}"


def _not_writable(settings: Settings, error: OSError) -> str:
    return (
        f"user {os.geteuid()} cannot write the volume ({error.strerror}: "
        f"{error.filename or settings.home}); run this once as root"
    )


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError(
            "The deployment is not as needed: " + "; ".join(problems) + ".",
            "Correct all of it, and run this again.",
        )
