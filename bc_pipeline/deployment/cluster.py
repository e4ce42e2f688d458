"""Prepare a deployment of several processes or machines; idempotent.

The embedded stack prepares itself. A cluster, whose processes Compose, Kubernetes or an operator
starts, is prepared by this once and again with each release. Airflow's own environment variables
say where its database is.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.deployment import airflow_programs
from bc_pipeline.deployment.shared_volume import Owner, change_owner, create_folders
from bc_pipeline.errors import ConfigError, PipelineError
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.run_note import SERVICE_USER
from bc_pipeline.settings import Settings
from bc_pipeline.stack.credentials import make_keys, make_password
from bc_pipeline.stack.pools import POOLS
from bc_pipeline.stack.upgrade import upgrade_volume

# Every process of Airflow needs the same values: with another one it cannot decrypt or verify
# what the others have written.
SHARED_OPTIONS = (
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
)
CONNECTION_FILES = (".json", ".yaml", ".yml", ".env")
# Longer than a migration on another machine takes.
LOCK_SECONDS = 1800.0


def prepare(
    settings: Settings,
    report: Callable[[str], None],
    *,
    owner: Owner,
    connections: Path | None,
    service_password: Path | None,
    seconds: float,
) -> dict[str, Any]:
    """Prepare volume and keys, and Airflow's tables, pools, connections and users.

    Parameters
    ----------
    report : callable
        Called with the current activity, and with the database's error while it is waited for.
    owner : Owner
        Owner of everything on the volume; changed only where this runs as root.
    connections : Path or None
        File of connections in Airflow's import format.
    service_password : Path or None
        Password file of a user that may start and read retrains; None creates no such user.
    seconds : float
        How long to wait for the metadata database.

    Returns
    -------
    dict
        The result for each item: ``made``, ``changed`` or ``unchanged``.

    Raises
    ------
    ConfigError
        Listing every defect, before anything of Airflow is changed.
    StackError
        Where the database does not answer or a program of Airflow fails.
    TransientError
        Where another machine prepares the same volume and does not finish in time.
    """
    defects = [
        *environment_defects(os.environ),
        *file_defects(settings, connections, service_password),
    ]
    try:
        make_directory(settings.home / "stack")
    except OSError as error:
        _raise_defects([*defects, _not_writable(settings, error)])
    report("Waiting for the volume")
    with locked(settings.home / "stack" / ".init.lock", LOCK_SECONDS):
        report("Preparing the volume")
        _raise_defects([*defects, *_prepare_volume(settings)])
        report("Waiting for the metadata database")
        airflow_programs.wait_for_database(
            settings, seconds, lambda reason: report(f"Waiting for the metadata database: {reason}")
        )
        report("Migrating the metadata database")
        airflow_programs.migrate_database(settings)
        report("Making pools, connections and users")
        done = airflow_programs.apply(
            settings,
            {
                "pools": POOLS,
                "connections": str(connections) if connections else None,
                "admin": [settings.airflow_user, str(settings.airflow_password)],
                "service": [SERVICE_USER, str(service_password)] if service_password else None,
                "retrains": [f"{problem.name}_retrain" for problem in PROBLEMS],
            },
        )
        changed = change_owner(settings, owner) if os.geteuid() == 0 else 0
    return {
        "volume": str(settings.home),
        "owner_changed": changed,
        "verify_key": str(settings.verify_key),
        "api_key_file": str(settings.api_key),
        "password_file": str(settings.airflow_password),
        "user_name": settings.airflow_user,
        **done,
    }


def environment_defects(environment: Mapping[str, str]) -> Iterator[str]:
    """Return which of the options that Airflow's processes share are missing or unreadable."""
    for option in SHARED_OPTIONS:
        # An explicit configuration file may hold them; the one that Airflow generates in its
        # home differs between machines.
        names = (option, f"{option}_CMD", f"{option}_SECRET", "AIRFLOW_CONFIG")
        if not any(environment.get(name) for name in names):
            yield f"{option} is not set, nor {option}_CMD, which reads it from a file"
        command = shlex.split(environment.get(f"{option}_CMD", ""))
        if command[:1] == ["cat"]:
            yield from (
                f"{option}_CMD reads {path}, which {reason}"
                for path in command[1:]
                if (reason := _unreadable_reason(Path(path)) or _unclean_reason(Path(path)))
            )


def file_defects(
    settings: Settings, connections: Path | None, service_password: Path | None
) -> Iterator[str]:
    """Return the defects of the files that the settings and the arguments name."""
    for folder in ("dags", "plugins", "expectations"):
        if not (settings.project_dir / folder).is_dir():
            yield f"BC_PROJECT_DIR, {settings.project_dir}, has no folder {folder}"
    password = settings.airflow_password
    if settings.airflow_password_file and (reason := _unreadable_reason(password)):
        yield f"BC_AIRFLOW_PASSWORD_FILE names {password}, which {reason}"
    if service_password is not None:
        if reason := _unreadable_reason(service_password):
            yield f"the file of the service's password {service_password} {reason}"
        elif settings.airflow_user == SERVICE_USER:
            yield f"BC_AIRFLOW_USER is {SERVICE_USER}, which is reserved for the service's user"
    if connections is not None:
        if reason := _unreadable_reason(connections):
            yield f"the file of connections {connections} {reason}"
        elif connections.suffix not in CONNECTION_FILES:
            yield f"the file of connections ends in none of {', '.join(CONNECTION_FILES)}"


def _unreadable_reason(path: Path) -> str:
    try:
        return "" if path.read_bytes().strip() else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _unclean_reason(path: Path) -> str:
    """Airflow uses all output of a command as the secret, white space included."""
    data = path.read_bytes()
    return "begins or ends with white space or an end of line" if data != data.strip() else ""


def _prepare_volume(settings: Settings) -> Iterator[str]:
    """Upgrade the volume, create folders and keys; return what could not be created."""
    try:
        upgrade_volume(settings)
        create_folders(settings)
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


def _raise_defects(defects: list[str]) -> None:
    if defects:
        raise ConfigError(
            "The deployment cannot be prepared: " + "; ".join(defects) + ".",
            "Correct all of it, and run this again.",
        )
