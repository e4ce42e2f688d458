"""API keys in memory: one digest and one lookup per request."""

from __future__ import annotations

import hashlib
import time
from math import inf
from pathlib import Path
from typing import NamedTuple

import structlog

from bc_pipeline import clock
from bc_pipeline.artifacts.files import file_state
from bc_pipeline.auth.callers import Caller, effective
from bc_pipeline.auth.key_store import KeyEntry, KeyStore, read_store
from bc_pipeline.errors import ConfigError


class _CachedKey(NamedTuple):
    entry: KeyEntry
    caller: Caller
    # Seconds since 1970 until which the key is accepted; minus infinity if it was revoked.
    until: float


class KeyCache:
    """The store's keys by their SHA-256.

    The time of a lookup may leak something about the digest of what was sent. That does not
    help to guess a key of 256 random bits, so no comparison in constant time is needed.

    Parameters
    ----------
    path : Path
        The key store.
    optional : bool
        Whether it may be missing, as where tokens alone are accepted.

    Attributes
    ----------
    read_error : str
        Why the store could not be read last time, or an empty string. The last valid keys
        stay in use.

    Raises
    ------
    ConfigError
        Where the store is damaged, or missing and not optional.
    """

    def __init__(self, path: Path, *, optional: bool = False) -> None:
        self._path = path
        self._keys: dict[bytes, _CachedKey] = {}
        self._loaded_state: tuple[int, ...] | None = None
        self.read_error = ""
        if path.exists() or not optional:
            self._loaded_state = file_state(self._path)
            self._replace(read_store(path))

    def refresh(self) -> bool:
        """Read the store again if its file changed; returns whether it did."""
        state = file_state(self._path)
        # After an error each refresh tries again: its cause may be gone.
        if state == self._loaded_state and not self.read_error:
            return False
        try:
            store = read_store(self._path)
        except ConfigError as error:
            if error.message != self.read_error:
                self.read_error = error.message
                structlog.get_logger().error(
                    "keys.unreadable", reason=error.message, cached=len(self._keys)
                )
            return False
        self._replace(store)
        # Set last: after an unexpected exception the next refresh tries again.
        self._loaded_state, self.read_error = state, ""
        structlog.get_logger().info("keys.read", keys=len(self._keys))
        return True

    def caller(self, raw: bytes) -> Caller | None:
        """The caller of a key, if it is accepted now."""
        cached = self._keys.get(hashlib.sha256(raw).digest())
        return cached.caller if cached is not None and time.time() < cached.until else None

    def rejection(self, raw: bytes) -> tuple[str, str]:
        """For the log: why a key is not accepted, and its id if it is in the store."""
        cached = self._keys.get(hashlib.sha256(raw).digest())
        if cached is None:
            return "unknown", ""
        return cached.entry.state(clock.now()), cached.entry.id

    def _replace(self, store: KeyStore) -> None:
        # One assignment: a request sees either the old keys or the new ones.
        self._keys = {bytes.fromhex(entry.sha256): _cached(entry) for entry in store.keys}


def _cached(entry: KeyEntry) -> _CachedKey:
    until = inf
    if entry.revoked_at is not None:
        until = -inf
    elif entry.expires_at is not None:
        until = clock.parse_time(entry.expires_at).timestamp()
    return _CachedKey(entry, Caller(entry.name, entry.id, effective(entry.scopes)), until)
