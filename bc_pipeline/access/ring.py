"""The keys as a worker holds them: one digest and one look-up per request."""

from __future__ import annotations

import hashlib
import os
import time
from math import inf
from pathlib import Path
from typing import NamedTuple

import structlog

from bc_pipeline import clock
from bc_pipeline.access.caller import Caller
from bc_pipeline.access.keys import KeyEntry, KeyStore, read_store
from bc_pipeline.access.scopes import effective
from bc_pipeline.errors import ConfigError


class _Held(NamedTuple):
    entry: KeyEntry
    caller: Caller
    # Seconds since 1970 at which the key stops to be accepted; revoked: always past.
    until: float


class KeyRing:
    """The store's keys by their SHA-256.

    How long a look-up takes may tell something about the digest of what was sent, which is
    no step towards a key of 256 random bits: there is nothing to compare in constant time.

    Parameters
    ----------
    path : Path
        The key store.
    optional : bool
        Whether it may be missing, as where tokens alone are accepted.

    Attributes
    ----------
    fault : str
        Why the store could not be read last time, or an empty string. The keys that were
        good before then go on.

    Raises
    ------
    ConfigError
        Where the store is damaged, or missing and not optional.
    """

    def __init__(self, path: Path, *, optional: bool = False) -> None:
        self._path = path
        self._held: dict[bytes, _Held] = {}
        self._stat: tuple[int, ...] | None = None
        self.fault = ""
        if path.exists() or not optional:
            self._stat = self._stamp()
            self._hold(read_store(path))

    def refresh(self) -> bool:
        """Read the store again where its file changed; a changed ring is answered with True."""
        stamp = self._stamp()
        # After a fault each refresh tries: it may have been a full table of open files.
        if stamp == self._stat and not self.fault:
            return False
        try:
            store = read_store(self._path)
        except ConfigError as error:
            if error.message != self.fault:
                self.fault = error.message
                structlog.get_logger().error(
                    "keys.unreadable", reason=error.message, kept=len(self._held)
                )
            return False
        self._hold(store)
        # Noted when all is done: what nobody foresaw is tried again.
        self._stat, self.fault = stamp, ""
        structlog.get_logger().info("keys.read", keys=len(self._held))
        return True

    def find(self, raw: bytes) -> KeyEntry | None:
        """The entry of a key that is accepted now."""
        held = self._held.get(hashlib.sha256(raw).digest())
        return held.entry if held is not None and time.time() < held.until else None

    def caller(self, raw: bytes) -> Caller | None:
        """Who a key that is accepted now belongs to."""
        held = self._held.get(hashlib.sha256(raw).digest())
        return held.caller if held is not None and time.time() < held.until else None

    def refused(self, raw: bytes) -> tuple[str, str]:
        """For the log: why a key is not accepted, and its id where it is a known one."""
        held = self._held.get(hashlib.sha256(raw).digest())
        if held is None:
            return "unknown", ""
        return held.entry.state(clock.now()), held.entry.id

    def _hold(self, store: KeyStore) -> None:
        # One assignment: a request sees the keys before or after, never some of both.
        self._held = {bytes.fromhex(entry.sha256): _held(entry) for entry in store.keys}

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _held(entry: KeyEntry) -> _Held:
    until = inf
    if entry.revoked_at is not None:
        until = -inf
    elif entry.expires_at is not None:
        until = clock.parse_time(entry.expires_at).timestamp()
    return _Held(entry, Caller(entry.name, entry.id, effective(entry.scopes)), until)
