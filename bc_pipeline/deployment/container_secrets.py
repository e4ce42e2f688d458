"""Secrets of a deployment in containers: generated once, mounted below /run/secrets.

A Compose secret is a mounted file that keeps its owner and mode. The containers run as other
users, so every file is readable by all; the folder is accessible only to its owner, and a
container sees only the files that it lists.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.auth.api_keys import generate_key
from bc_pipeline.errors import ConfigError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o444
SIGNING_KEY: Final = "signing_key"
VERIFY_KEY: Final = "verify_key"
# May be empty: then no alerts are sent.
OPTIONAL: Final = frozenset({"alert_webhook_url"})
_DATABASE = re.compile(r"[a-z0-9+]+://([a-z_]+):([A-Za-z0-9_-]+)@([^/@\s]+/[a-z_]+)")
_PEM: Final = frozenset({SIGNING_KEY, VERIFY_KEY})


def _password() -> str:
    # Letters, digits, hyphens and underscores need no quoting in URLs.
    return secrets.token_urlsafe(32)


def _database(user: str, driver: str) -> Callable[[], str]:
    return lambda: f"{driver}://{user}:{_password()}@postgres:5432/{user}"


GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "postgres_password": _password,
    "airflow_db_url": _database("airflow", "postgresql+psycopg2"),
    "mlflow_db_url": _database("mlflow", "postgresql+psycopg2"),
    "records_url": _database("records", "postgresql"),
    "redis_password": _password,
    "fernet_key": lambda: Fernet.generate_key().decode(),
    "jwt_secret": lambda: secrets.token_hex(32),
    "api_secret_key": lambda: secrets.token_hex(32),
    "airflow_admin_password": _password,
    "airflow_service_password": _password,
    "flower_auth": lambda: f"flower:{_password()}",
    "grafana_password": _password,
    "prometheus_key": generate_key,
    "api_key": generate_key,
    "alert_webhook_url": str,
}


def _result_url(airflow_db_url: str) -> str:
    match = _DATABASE.fullmatch(airflow_db_url)
    if match is None:
        raise ConfigError(
            "The secret airflow_db_url is not scheme://user:password@host/database.",
            "Write it so, or remove the file and make it again: make secrets.",
            setting="airflow_db_url",
        )
    return f"db+postgresql+psycopg2://{match[1]}:{match[2]}@{match[3]}"


# Secrets that are derived from another one: its name, and the function.
DERIVED: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "celery_broker_url": ("redis_password", lambda password: f"redis://:{password}@redis:6379/0"),
    "celery_result_url": ("airflow_db_url", _result_url),
}
NAMES: Final = frozenset({*GENERATED, *DERIVED, SIGNING_KEY, VERIFY_KEY})


def make_container_secrets(folder: Path) -> list[str]:
    """Create every missing secret; an existing one is never replaced.

    Returns
    -------
    list of str
        Names of the created secrets.

    Raises
    ------
    ConfigError
        Listing every existing file that is malformed or does not fit the others.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    made = [name for name in NAMES if not (folder / name).exists()]
    for name, make in GENERATED.items():
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
    """Require that all secrets exist and are well-formed.

    Raises
    ------
    ConfigError
        Naming every defective secret, without its value.
    """
    missing = sorted(name for name in NAMES if not (folder / name).is_file())
    if missing:
        raise ConfigError(
            f"Secrets are missing in {folder}: {', '.join(missing)}.",
            "Make them: make secrets.",
            setting=", ".join(missing),
        )
    defects = {name: defect for name in sorted(NAMES) if (defect := _defect(folder, name))}
    if defects:
        raise ConfigError(
            f"Secrets in {folder} cannot be used: "
            + "; ".join(f"{name} {defect}" for name, defect in defects.items())
            + ".",
            "Correct the files named, or remove them and make them again: make secrets.",
            setting=", ".join(defects),
        )


def _defect(folder: Path, name: str) -> str:
    """Return the defect of one secret; empty without one."""
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
    # Without a final line break: Airflow uses all output of a command as the secret.
    write_atomic(path, value.encode(), mode=FILE_MODE)
