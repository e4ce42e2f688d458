"""Keys and passwords of a stack: made once, kept in files that only the user reads."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.access.keys import import_key, make_raw
from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.settings import Settings

SECRET_MODE = 0o600
AIRFLOW_USER = "admin"
# Name of the service key that the machine's own user has, in a file.
LOCAL_KEY = "local"


@dataclass(frozen=True)
class Secrets:
    """Where each secret stands; the values are read where they are needed."""

    folder: Path

    @property
    def airflow_password(self) -> Path:
        """Plain text, for people and scripts."""
        return self.folder / "airflow_password"

    @property
    def airflow_viewer_password(self) -> Path:
        return self.folder / "airflow_viewer_password"

    @property
    def airflow_users(self) -> Path:
        """The same passwords in the form that Airflow's simple auth manager reads."""
        return self.folder / "airflow_users.json"

    @property
    def jwt_secret(self) -> Path:
        return self.folder / "airflow_jwt_secret"

    @property
    def session_secret(self) -> Path:
        return self.folder / "airflow_session_secret"

    @property
    def fernet_key(self) -> Path:
        return self.folder / "airflow_fernet_key"


def secrets_of(settings: Settings) -> Secrets:
    return Secrets(settings.home / "keys")


def read_secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def make_secrets(settings: Settings) -> Secrets:
    """Make every secret that is not there yet; an existing one is never replaced."""
    found = secrets_of(settings)
    found.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (found.airflow_password, found.airflow_viewer_password):
        make_password(path)
    for path in (found.jwt_secret, found.session_secret):
        _make(path, secrets.token_hex(32))
    _make(found.fernet_key, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    users = {
        AIRFLOW_USER: read_secret(found.airflow_password),
        "viewer": read_secret(found.airflow_viewer_password),
    }
    write_atomic(found.airflow_users, json.dumps(users).encode(), mode=SECRET_MODE)
    make_keys(settings)
    return found


def make_keys(settings: Settings) -> None:
    """Make the pair that signs models and the key that the service lets in, where missing.

    Raises
    ------
    ConfigError
        Where files that are there do not belong together, or hold no key.
    OSError
        Where a missing one cannot be written.
    """
    _make(settings.api_key, make_raw())
    # The file is the only home of this key: what it holds counts, whoever wrote it.
    raw = read_secret(settings.api_key)
    import_key(settings.service_keys, LOCAL_KEY, ["admin"], raw, replacing=True)
    signing.make_keys(settings.signing_key, settings.verify_key)


def make_password(path: Path) -> None:
    """Make a password that nobody can guess, where there is none yet."""
    _make(path, secrets.token_urlsafe(32))


def _make(path: Path, value: str) -> None:
    if not path.exists():
        write_atomic(path, value.encode() + b"\n", mode=SECRET_MODE)
