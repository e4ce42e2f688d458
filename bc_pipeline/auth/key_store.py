"""The store of API keys: a JSON file with their digests, never the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from bc_pipeline import clock
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import locked, write_document
from bc_pipeline.auth.callers import Scope
from bc_pipeline.errors import ConfigError

FORMAT: Final = 1
SETTING: Final = "BC_SERVICE_KEYS_FILE"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class KeyEntry(Document, frozen=True):
    """One key; times are ISO 8601 in UTC.

    Attributes
    ----------
    rotated_to : str or None
        Id of the key that replaces this one.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    rotated_to: str | None = None

    def state(self, moment: datetime) -> str:
        """``live``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and moment >= clock.parse_time(self.expires_at):
            return "expired"
        return "live"


class KeyStore(Document, frozen=True):
    """The file as a whole."""

    format: int
    keys: tuple[KeyEntry, ...]


def read_store(path: Path) -> KeyStore:
    """Read the store.

    Raises
    ------
    ConfigError
        Where it is missing, unreadable or damaged; never with its content.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The key store {path} cannot be read: {error.strerror}.",
            "Make one with 'bc-pipeline keys create', or name another in BC_SERVICE_KEYS_FILE.",
            setting=SETTING,
        ) from None
    try:
        store = msgspec.json.decode(data, type=KeyStore)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _damaged(path) from None
    try:
        times = [time for entry in store.keys for time in (entry.created_at, entry.expires_at)]
        for time in filter(None, times):
            clock.parse_time(time)
    except ConfigError:
        raise _damaged(path) from None
    digests = [entry.sha256 for entry in store.keys]
    if (
        store.format != FORMAT
        or len(set(digests)) != len(digests)
        or not all(_SHA256.fullmatch(digest) for digest in digests)
    ):
        raise _damaged(path)
    return store


def list_keys(path: Path) -> tuple[KeyEntry, ...]:
    """Every key that was ever created, oldest first; none where the store does not exist."""
    return read_store(path).keys if path.exists() else ()


@contextmanager
def edit_keys(path: Path) -> Iterator[list[KeyEntry]]:
    """The store's keys, to be changed under its lock; they are written unless an error occurs."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        before = list_keys(path)
        keys = list(before)
        yield keys
        if tuple(keys) != before or not path.exists():
            write_document(path, KeyStore(FORMAT, tuple(keys)))


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        f"The key store {path} is damaged.",
        "Restore it from a backup, or move it away and make new keys.",
        setting=SETTING,
    )
