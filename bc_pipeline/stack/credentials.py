"""Keys and passwords of a stack: generated once, in files that only the user can read."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Literal

from cryptography.fernet import Fernet

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.auth.api_keys import generate_key, import_key
from bc_pipeline.settings import Settings

SECRET_MODE = 0o600
AIRFLOW_USER = "admin"
# Name of the service's API key that is stored in a file for the local user.
LOCAL_KEY = "local"


SecretName = Literal[
    "airflow_password",
    "airflow_viewer_password",
    # The same passwords in the format of Airflow's simple auth manager.
    "airflow_users.json",
    "airflow_jwt_secret",
    "airflow_session_secret",
    "airflow_fernet_key",
]


def secret_file(settings: Settings, name: SecretName) -> Path:
    return settings.home / "keys" / name


def read_secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def make_secrets(settings: Settings) -> None:
    """Create every missing secret; an existing one is never replaced."""
    admin = secret_file(settings, "airflow_password")
    viewer = secret_file(settings, "airflow_viewer_password")
    users_file = secret_file(settings, "airflow_users.json")
    users_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_password(admin)
    make_password(viewer)
    _create(secret_file(settings, "airflow_jwt_secret"), secrets.token_hex(32))
    _create(secret_file(settings, "airflow_session_secret"), secrets.token_hex(32))
    _create(secret_file(settings, "airflow_fernet_key"), Fernet.generate_key().decode())
    users = {AIRFLOW_USER: read_secret(admin), "viewer": read_secret(viewer)}
    write_atomic(users_file, json.dumps(users).encode(), mode=SECRET_MODE)
    make_keys(settings)


def make_keys(settings: Settings) -> None:
    """Create the signing key pair and the local API key where they are missing.

    Raises
    ------
    ConfigError
        Where existing files do not belong together or hold no key.
    OSError
        Where a missing file cannot be written.
    """
    _create(settings.api_key, generate_key())
    # The file is authoritative for this key, whoever wrote it.
    raw = read_secret(settings.api_key)
    import_key(settings.service_keys, LOCAL_KEY, ["admin"], raw, replacing=True)
    signing.make_keys(settings.signing_key, settings.verify_key)


def make_password(path: Path) -> None:
    """Create a random password where there is none yet."""
    _create(path, secrets.token_urlsafe(32))


def _create(path: Path, value: str) -> None:
    if not path.exists():
        write_atomic(path, value.encode() + b"\n", mode=SECRET_MODE)
