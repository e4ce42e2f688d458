"""Secrets of a deployment in containers: made once, one file each, mounted below /run/secrets.

A compose secret is a mounted file and keeps the owner and the mode that it has outside. The
containers run as users of their own, none of which owns it, so each file can be read by all;
the folder lets nobody but its owner in, and a container sees only the files that it names.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bc_pipeline.access.keys import make_raw
from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.errors import ConfigError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o444
SIGNING_KEY: Final = "signing_key"
VERIFY_KEY: Final = "verify_key"
# May stay empty: nothing is told then.
OPTIONAL: Final = frozenset({"alert_webhook_url"})
_DATABASE = re.compile(r"[a-z0-9+]+://([a-z_]+):([A-Za-z0-9_-]+)@([^/@\s]+/[a-z_]+)")
_PEM: Final = frozenset({SIGNING_KEY, VERIFY_KEY})


def _password() -> str:
    # Letters, digits, hyphens and underscores: it stands in addresses as it is.
    return secrets.token_urlsafe(32)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _database(user: str, driver: str) -> Callable[[], str]:
    return lambda: f"{driver}://{user}:{_password()}@postgres:5432/{user}"


MADE: Final[Mapping[str, Callable[[], str]]] = {
    "postgres_password": _password,
    "airflow_db_url": _database("airflow", "postgresql+psycopg2"),
    "mlflow_db_url": _database("mlflow", "postgresql+psycopg2"),
    "records_url": _database("records", "postgresql"),
    "redis_password": _password,
    "fernet_key": _fernet_key,
    "jwt_secret": lambda: secrets.token_hex(32),
    "api_secret_key": lambda: secrets.token_hex(32),
    "airflow_admin_password": _password,
    "airflow_service_password": _password,
    "flower_auth": lambda: f"flower:{_password()}",
    "grafana_password": _password,
    "prometheus_key": make_raw,
    "api_key": make_raw,
    "alert_webhook_url": str,
}


def _broker_url(redis_password: str) -> str:
    return f"redis://:{redis_password}@redis:6379/0"


def _result_url(airflow_db_url: str) -> str:
    found = _DATABASE.fullmatch(airflow_db_url)
    if found is None:
        raise ConfigError(
            "The secret airflow_db_url is not scheme://user:password@host/database.",
            "Write it so, or remove the file and make it again: make secrets.",
            setting="airflow_db_url",
        )
    return f"db+postgresql+psycopg2://{found[1]}:{found[2]}@{found[3]}"


# What says the same as another secret in other words: its source, and how.
DERIVED: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "celery_broker_url": ("redis_password", _broker_url),
    "celery_result_url": ("airflow_db_url", _result_url),
}
NAMES: Final = frozenset({*MADE, *DERIVED, SIGNING_KEY, VERIFY_KEY})


def make_container_secrets(folder: Path) -> list[str]:
    """Make every secret that is not there yet; an existing one is never replaced.

    Returns
    -------
    list of str
        Names of those that were made.

    Raises
    ------
    ConfigError
        Where files that are there do not fit each other, or are not as needed; all are named.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    made = [name for name in NAMES if not (folder / name).exists()]
    for name, make in MADE.items():
        if name in made:
            _write(folder / name, make())
    for name, (source, derive) in DERIVED.items():
        if name in made:
            _write(folder / name, derive(_read(folder / source)))
    signing.make_keys(folder / SIGNING_KEY, folder / VERIFY_KEY)
    for name in _PEM.intersection(made):
        (folder / name).chmod(FILE_MODE)
    require_container_secrets(folder)
    return sorted(made)


def require_container_secrets(folder: Path) -> None:
    """Refuse to start with secrets that are missing or cannot work.

    Raises
    ------
    ConfigError
        Naming every one, never with what stands in it.
    """
    missing = sorted(name for name in NAMES if not (folder / name).is_file())
    if missing:
        raise ConfigError(
            f"Secrets are missing in {folder}: {', '.join(missing)}.",
            "Make them: make secrets.",
            setting=", ".join(missing),
        )
    wrong = {name: defect for name in sorted(NAMES) if (defect := _defect(folder, name))}
    if wrong:
        raise ConfigError(
            f"Secrets in {folder} are not as needed: "
            + "; ".join(f"{name} {defect}" for name, defect in wrong.items())
            + ".",
            "Correct the files named, or remove them and make them again: make secrets.",
            setting=", ".join(wrong),
        )


def _defect(folder: Path, name: str) -> str:
    """What is wrong with one secret; empty where nothing is."""
    value = _read(folder / name)
    if name not in _PEM and value != value.strip():
        return "has white space around it: write it without the end of the line"
    if not value:
        return "" if name in OPTIONAL else "is empty"
    if name in DERIVED:
        source, derive = DERIVED[name]
        try:
            fits = value == derive(_read(folder / source))
        except ConfigError as error:
            return f"cannot be checked: {error.message}"
        return "" if fits else f"does not fit {source}"
    return ""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, value: str) -> None:
    # Without the end of a line: Airflow takes what a command prints to the last byte.
    write_atomic(path, value.encode(), mode=FILE_MODE)
