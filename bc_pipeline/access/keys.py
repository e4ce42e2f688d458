"""The store of API keys: a JSON file that holds their digests, never a key.

A key is ``bck_<id>_<43 characters>``: 256 random bits, which nobody can guess from their
SHA-256, so no slow password hash is needed. The id is public and names the key in logs.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from bc_pipeline import clock
from bc_pipeline.access.scopes import SCOPES, Scope
from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.artifacts.files import locked, sha256_bytes, write_record
from bc_pipeline.errors import ConfigError

PREFIX: Final = "bck_"
FORMAT: Final = 1
MINIMUM_LENGTH: Final = 16
_SETTING = "BC_SERVICE_KEYS_FILE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RAW = re.compile(rf"{PREFIX}([0-9a-f]{{8}})_[A-Za-z0-9_-]{{43}}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class KeyEntry(Record, frozen=True):
    """What is known of one key; times are ISO 8601 in UTC.

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


class KeyStore(Record, frozen=True):
    """The file as a whole."""

    format: int
    keys: tuple[KeyEntry, ...]


def make_raw() -> str:
    """A new key, which nothing knows yet."""
    return f"{PREFIX}{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def read_store(path: Path) -> KeyStore:
    """Read the store.

    Raises
    ------
    ConfigError
        Where it is missing, cannot be read or is damaged; never with what stands in it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The key store {path} cannot be read: {error.strerror}.",
            "Make one with 'bc-pipeline keys create', or name another in BC_SERVICE_KEYS_FILE.",
            setting=_SETTING,
        ) from None
    try:
        store = msgspec.json.decode(data, type=KeyStore)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _damaged(path) from None
    try:
        times = [when for entry in store.keys for when in (entry.created_at, entry.expires_at)]
        for when in filter(None, times):
            clock.parse_time(when)
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
    """Every key that was ever made, oldest first; none where there is no store yet."""
    return read_store(path).keys if path.exists() else ()


def create_key(
    path: Path, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[str, KeyEntry]:
    """Make a key.

    Returns
    -------
    str
        The key. It stands nowhere else: show it once.
    KeyEntry

    Raises
    ------
    ConfigError
        Where the name is taken by a live key, or an argument is not as needed.
    """
    raw = make_raw()
    entry = _entry(name, _known(scopes), expires_at, raw)
    _edit(path, lambda keys: (*keys, _free(keys, entry)))
    return raw, entry


def import_key(
    path: Path, name: str, scopes: Iterable[str], raw: str, *, replacing: bool = False
) -> KeyEntry:
    """Let a key in that was made elsewhere; one that the store knows is left as it is.

    Parameters
    ----------
    replacing : bool
        Whether live keys of that name are revoked; else they are in the way.

    Raises
    ------
    ConfigError
        Where it is no usable key, or a live key bears the name.
    """
    if len(raw) < MINIMUM_LENGTH or len(raw.split()) != 1 or not raw.isascii():
        raise ConfigError(
            f"A key is one word of {MINIMUM_LENGTH} or more ASCII characters.",
            "Use 'bc-pipeline keys create', which makes a good one.",
            setting=_SETTING,
        )
    entry = _entry(name, _known(scopes), None, raw)

    def add(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        if any(known.sha256 == entry.sha256 for known in keys):
            return keys
        if replacing:
            live = {known.id for known in keys if known.name == name}
            keys = _revoked(keys, live, clock.now())
        return (*keys, _free(keys, entry))

    store = _edit(path, add)
    return next(known for known in store.keys if known.sha256 == entry.sha256)


def revoke_key(path: Path, id_or_name: str) -> tuple[KeyEntry, ...]:
    """Refuse a key from now on; a name stands for all live keys that bear it.

    Raises
    ------
    ConfigError
        Where no live key is meant.
    """
    at = clock.now()
    ids: set[str] = set()

    def revoke(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        ids.update(entry.id for entry in _meant(keys, id_or_name, at))
        return _revoked(keys, ids, at)

    return tuple(entry for entry in _edit(path, revoke).keys if entry.id in ids)


def rotate_key(path: Path, id_or_name: str, overlap: timedelta) -> tuple[str, KeyEntry]:
    """Make a key of the same name and scopes; the old one goes on for the overlap.

    The new key lives as long as the old one was meant to.

    Raises
    ------
    ConfigError
        Where no live key is meant, or it was rotated before.
    """
    if overlap < timedelta(0):
        raise ConfigError("The overlap is negative.", setting="overlap")
    at = clock.now()
    made: list[tuple[str, KeyEntry]] = []

    def rotate(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        old = [entry for entry in _meant(keys, id_or_name, at) if entry.rotated_to is None]
        if len(old) != 1:
            raise ConfigError(
                f"{id_or_name!r} does not name one live key that was not rotated yet.",
                "Name it by its id: 'bc-pipeline keys list'.",
                setting="key",
            )
        life = _life(old[0])
        raw = make_raw()
        expires_at = None if life is None else _after(at, life)
        entry = _entry(old[0].name, old[0].scopes, expires_at, raw)
        made.append((raw, entry))
        end = clock.format_time(_after(at, overlap))
        if old[0].expires_at is not None:
            end = min(end, old[0].expires_at)
        replaced = msgspec.structs.replace(old[0], expires_at=end, rotated_to=entry.id)
        return (*(replaced if known.id == old[0].id else known for known in keys), entry)

    _edit(path, rotate)
    return made[-1]


def _edit(path: Path, change: Callable[[tuple[KeyEntry, ...]], tuple[KeyEntry, ...]]) -> KeyStore:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        before = list_keys(path)
        after = KeyStore(FORMAT, change(before))
        if after.keys != before or not path.exists():
            write_record(path, after)
        return after


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
    ours = _RAW.fullmatch(raw)
    return KeyEntry(
        id=ours[1] if ours else secrets.token_hex(4),
        name=name,
        scopes=scopes,
        sha256=sha256_bytes(raw.encode()),
        created_at=clock.format_time(at),
        expires_at=None if expires_at is None else clock.format_time(expires_at),
    )


def _known(scopes: Iterable[str]) -> tuple[Scope, ...]:
    wanted = set(scopes)
    unknown = wanted.difference(SCOPES)
    if unknown or not wanted:
        raise ConfigError(f"Scopes are one or more of {', '.join(SCOPES)}.", setting="scope")
    return tuple(scope for scope in SCOPES if scope in wanted)


def _free(keys: tuple[KeyEntry, ...], entry: KeyEntry) -> KeyEntry:
    at = clock.now()
    if any(entry.name in (known.name, known.id) and known.state(at) == "live" for known in keys):
        raise ConfigError(
            f"There is a live key that is called {entry.name!r}.",
            "Rotate or revoke it, or choose another name.",
            setting="name",
        )
    return entry


def _meant(keys: tuple[KeyEntry, ...], id_or_name: str, at: datetime) -> list[KeyEntry]:
    live = [entry for entry in keys if entry.state(at) == "live"]
    meant = [entry for entry in live if entry.id == id_or_name] or [
        entry for entry in live if entry.name == id_or_name
    ]
    if not meant:
        raise ConfigError(
            f"There is no live key {id_or_name!r}.", "See 'bc-pipeline keys list'.", setting="key"
        )
    return meant


def _revoked(keys: tuple[KeyEntry, ...], ids: set[str], at: datetime) -> tuple[KeyEntry, ...]:
    return tuple(
        msgspec.structs.replace(entry, revoked_at=clock.format_time(at))
        if entry.id in ids and entry.revoked_at is None
        else entry
        for entry in keys
    )


def _life(entry: KeyEntry) -> timedelta | None:
    if entry.expires_at is None:
        return None
    return clock.parse_time(entry.expires_at) - clock.parse_time(entry.created_at)


def _after(at: datetime, span: timedelta) -> datetime:
    """So much later, or the last moment that there is."""
    return at + min(span, datetime.max.replace(tzinfo=UTC) - at)


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        f"The key store {path} is damaged.",
        "Restore it from a backup, or move it away and make new keys.",
        setting=_SETTING,
    )
