"""Creates, imports, rotates and revokes API keys.

A key is ``bck_<id>_<43 characters>``: 256 random bits, which cannot be guessed from their
SHA-256, so no slow password hash is needed. The id is public and identifies the key in logs.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from bc_pipeline import clock
from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.auth.callers import SCOPES, Scope
from bc_pipeline.auth.key_store import SETTING, KeyEntry, edit_keys
from bc_pipeline.errors import ConfigError

PREFIX: Final = "bck_"
MINIMUM_LENGTH: Final = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RAW = re.compile(rf"{PREFIX}([0-9a-f]{{8}})_[A-Za-z0-9_-]{{43}}", re.ASCII)


# Called with a new key, its entry, and the entry that it replaces.
Deliver = Callable[[str, KeyEntry, KeyEntry | None], None]


def generate_key() -> str:
    """Generate a key."""
    return f"{PREFIX}{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def create_key(
    path: Path,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    *,
    deliver: Deliver | None = None,
) -> tuple[str, KeyEntry]:
    """Create a key.

    Parameters
    ----------
    deliver : callable, optional
        Gives the key to its user. The key is valid once this returns, and never where it raises:
        a valid key that nobody has cannot be told from one in use.

    Returns
    -------
    str
        The key. It is stored nowhere: show it once.
    KeyEntry

    Raises
    ------
    ConfigError
        Where a live key has the name, or an argument is invalid.
    """
    raw = generate_key()
    entry = _entry(name, _parse_scopes(scopes), expires_at, raw)
    with edit_keys(path) as keys:
        keys.append(_require_free_name(keys, entry))
        if deliver is not None:
            deliver(raw, entry, None)
    return raw, entry


def import_key(
    path: Path, name: str, scopes: Iterable[str], raw: str, *, replacing: bool = False
) -> KeyEntry:
    """Add a key that was created elsewhere; one that the store has already is not changed.

    Parameters
    ----------
    replacing : bool
        Whether live keys of that name are revoked; otherwise they are an error.

    Raises
    ------
    ConfigError
        Where the key is too short or malformed, or a live key has the name.
    """
    if len(raw) < MINIMUM_LENGTH or len(raw.split()) != 1 or not raw.isascii():
        raise ConfigError(
            f"A key is one word of {MINIMUM_LENGTH} or more ASCII characters.",
            "Use 'bc-pipeline keys create', which makes a good one.",
            setting=SETTING,
        )
    entry = _entry(name, _parse_scopes(scopes), None, raw)
    with edit_keys(path) as keys:
        for known in keys:
            if known.sha256 == entry.sha256:
                return known
        if replacing:
            _revoke(keys, {known.id for known in keys if known.name == name}, clock.now())
        keys.append(_require_free_name(keys, entry))
    return entry


def revoke_key(path: Path, id_or_name: str) -> tuple[KeyEntry, ...]:
    """Revoke a key by its id, or all live keys of a name.

    Raises
    ------
    ConfigError
        Where no live key has the id or name.
    """
    at = clock.now()
    with edit_keys(path) as keys:
        ids = {entry.id for entry in _live_keys(keys, id_or_name, at)}
        _revoke(keys, ids, at)
        return tuple(entry for entry in keys if entry.id in ids)


def rotate_key(
    path: Path, id_or_name: str, overlap: timedelta, *, deliver: Deliver | None = None
) -> tuple[str, KeyEntry]:
    """Create a key of the same name and scopes; the old one stays valid for the overlap.

    The new key is valid as long as the old one was at its creation.

    Parameters
    ----------
    deliver : callable, optional
        As of `create_key`; where it raises, the old key stays as it was.

    Raises
    ------
    ConfigError
        Where no live key has the id or name, or it was rotated before.
    """
    if overlap < timedelta(0):
        raise ConfigError("The overlap is negative.", setting="overlap")
    at = clock.now()
    with edit_keys(path) as keys:
        live = _live_keys(keys, id_or_name, at)
        try:
            (old,) = (entry for entry in live if entry.rotated_to is None)
        except ValueError:
            raise ConfigError(
                f"{id_or_name!r} does not name one live key that was not rotated yet.",
                "Name it by its id: 'bc-pipeline keys list'.",
                setting="key",
            ) from None
        lifetime = _lifetime(old)
        raw = generate_key()
        expires_at = None if lifetime is None else _after(at, lifetime)
        entry = _entry(old.name, old.scopes, expires_at, raw)
        end = clock.format_time(_after(at, overlap))
        if old.expires_at is not None:
            end = min(end, old.expires_at)
        replaced = msgspec.structs.replace(old, expires_at=end, rotated_to=entry.id)
        keys[keys.index(old)] = replaced
        keys.append(entry)
        if deliver is not None:
            deliver(raw, entry, replaced)
    return raw, entry


def _entry(name: str, scopes: tuple[Scope, ...], expires_at: datetime | None, raw: str) -> KeyEntry:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "A key's name has 1 to 64 letters, digits, dots, hyphens and underscores, and "
            "starts with a letter or digit.",
            setting="name",
        )
    at = clock.now()
    if expires_at is not None and expires_at <= at:
        raise ConfigError("The key would have expired already.", setting="expires_at")
    match = _RAW.fullmatch(raw)
    return KeyEntry(
        id=match[1] if match else secrets.token_hex(4),
        name=name,
        scopes=scopes,
        sha256=sha256_bytes(raw.encode()),
        created_at=clock.format_time(at),
        expires_at=None if expires_at is None else clock.format_time(expires_at),
    )


def _parse_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    wanted = set(scopes)
    unknown = wanted.difference(SCOPES)
    if unknown or not wanted:
        raise ConfigError(f"Scopes are one or more of {', '.join(SCOPES)}.", setting="scope")
    return tuple(scope for scope in SCOPES if scope in wanted)


def _require_free_name(keys: Sequence[KeyEntry], entry: KeyEntry) -> KeyEntry:
    at = clock.now()
    if any(entry.name in (known.name, known.id) and known.state(at) == "live" for known in keys):
        raise ConfigError(
            f"There is a live key that is called {entry.name!r}.",
            "Rotate or revoke it, or choose another name.",
            setting="name",
        )
    return entry


def _live_keys(keys: Sequence[KeyEntry], id_or_name: str, at: datetime) -> list[KeyEntry]:
    live = [entry for entry in keys if entry.state(at) == "live"]
    matches = [entry for entry in live if entry.id == id_or_name] or [
        entry for entry in live if entry.name == id_or_name
    ]
    if not matches:
        raise ConfigError(
            f"There is no live key {id_or_name!r}.", "See 'bc-pipeline keys list'.", setting="key"
        )
    return matches


def _revoke(keys: list[KeyEntry], ids: set[str], at: datetime) -> None:
    for index, entry in enumerate(keys):
        if entry.id in ids and entry.revoked_at is None:
            keys[index] = msgspec.structs.replace(entry, revoked_at=clock.format_time(at))


def _lifetime(entry: KeyEntry) -> timedelta | None:
    if entry.expires_at is None:
        return None
    return clock.parse_time(entry.expires_at) - clock.parse_time(entry.created_at)


def _after(at: datetime, span: timedelta) -> datetime:
    """The time after a span, at most the last one that the calendar has."""
    return at + min(span, datetime.max.replace(tzinfo=UTC) - at)
