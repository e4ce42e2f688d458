"""Finds and removes one person's predictions: in segments, quarantined entries and the database.

A worker may be appending to a segment, so an entry in it is not cut out: its bytes become zeros,
with the length that they had (`frames.erase_payload`), and readers pass over them. Segments come
first: otherwise an entry that is in both could be inserted again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ConfigError, DecryptionFailed, RecordsAway
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.frames import (
    MAGIC,
    AnyEntry,
    erase_payload,
    private_fields,
    read_frames,
    records_cipher,
)
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.prediction_log.database import Database

Matches = Callable[[Sequence[str | None], np.ndarray], np.ndarray]
"""Which entries are the person's, by sample ids and values of shape (n, n_features)."""
_AT_ONCE = 2_000
_DRAIN_SECONDS = 60.0
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class LoggedSample:
    """A person's predictions in the log.

    Attributes
    ----------
    ids : frozenset of str
        Of the predictions.
    values : array of float64, shape (n, n_features)
    unread : tuple of str
        Quarantined files that cannot be decoded, and so may hold further predictions.
    """

    ids: frozenset[str]
    values: np.ndarray
    unread: tuple[str, ...]


def find_logged(settings: Settings, features: int, matches: Matches) -> LoggedSample:
    """Search the log and its database.

    Raises
    ------
    ConfigError
        Where entries are encrypted with a key that is not configured.
    RecordsAway
    """
    from bc_pipeline.prediction_log.database import open_database

    if not settings.records.is_dir() and settings.records_url is None:
        return LoggedSample(frozenset(), np.empty((0, features)), ())
    database = open_database(settings)
    cipher = records_cipher(settings)
    ids: set[str] = set()
    matching = [np.empty((0, features))]
    stored = _database_blocks(database) if database.has_tables() else iter(())
    for entries in chain(_logged_blocks(settings), _quarantined_blocks(settings), stored):
        mine, values = _match(entries, cipher, features, matches)
        ids.update(entry.id for entry in mine)
        matching.append(values)
    return LoggedSample(frozenset(ids), np.concatenate(matching), _undecoded(settings))


def erase_logged(settings: Settings, ids: frozenset[str]) -> tuple[int, int]:
    """Remove predictions, and their outcomes.

    Returns
    -------
    predictions, outcomes : int
        How many were removed.

    Raises
    ------
    RecordsAway
        Also where entries of the log do not reach the database; repeating is safe.
    """
    import sqlalchemy as sa

    from bc_pipeline.prediction_log.database import open_database
    from bc_pipeline.prediction_log.tables import outcomes, predictions

    if not ids:
        return 0, 0
    open_database(settings).migrate()
    _drain(settings)
    gone = _erase_in_segments(settings, ids) | _erase_quarantined(settings, ids)
    removed = 0
    ordered = sorted(ids)
    with open_database(settings).write_transaction() as connection:
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            known = connection.execute(
                sa.select(predictions.c.id).where(predictions.c.id.in_(some))
            ).scalars()
            gone.update(known)
            of = outcomes.c.prediction_id.in_(some)
            removed += connection.execute(sa.delete(outcomes).where(of)).rowcount
            connection.execute(sa.delete(predictions).where(predictions.c.id.in_(some)))
    return len(gone), removed


def _match(
    entries: Sequence[AnyEntry], cipher: Cipher | None, features: int, matches: Matches
) -> tuple[list[AnyEntry], np.ndarray]:
    try:
        private = [private_fields(entry, cipher) for entry in entries]
    except DecryptionFailed:
        raise ConfigError(
            "Logged predictions are encrypted with a key that is not at hand, so nobody can tell "
            "whose they are.",
            "Let BC_RECORDS_KEY_FILE hold that key; or remove them: `bc-pipeline records purge`.",
            setting="BC_RECORDS_KEY_FILE",
        ) from None
    usable = [n for n, (values, _) in enumerate(private) if len(values) == 8 * features]
    values = np.array(
        [np.frombuffer(private[n][0], dtype="<f8") for n in usable], dtype=np.float64
    ).reshape(-1, features)
    is_match = matches([private[n][1] for n in usable], values + 0.0)
    return [entries[usable[n]] for n in np.flatnonzero(is_match)], values[is_match]


def _logged_blocks(settings: Settings) -> Iterator[list[AnyEntry]]:
    for path in segments.list_segments(segments.spool_folder(settings.records)):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # The drainer removed the segment after it was listed.
            continue
        frames = read_frames(data[len(MAGIC) :], closed=True)
        yield [frame.entry for frame in frames if frame.entry is not None]


def _quarantined_blocks(settings: Settings) -> Iterator[list[AnyEntry]]:
    for _, entries in _quarantined(settings):
        yield entries


def _quarantined(settings: Settings) -> Iterator[tuple[Path, list[AnyEntry]]]:
    for path in sorted(segments.quarantine_folder(settings.records).glob("[!.]*")):
        frames = read_frames(path.read_bytes(), closed=True)
        yield path, [frame.entry for frame in frames if frame.entry is not None]


def _undecoded(settings: Settings) -> tuple[str, ...]:
    return tuple(path.name for path, entries in _quarantined(settings) if not entries)


def _database_blocks(database: Database) -> Iterator[list[AnyEntry]]:
    import sqlalchemy as sa

    from bc_pipeline.prediction_log.insert import entry_of_row
    from bc_pipeline.prediction_log.tables import predictions

    last = ""
    while True:
        query = sa.select(predictions).where(predictions.c.id > last).order_by(predictions.c.id)
        with database.read_transaction() as connection:
            rows = connection.execute(query.limit(_AT_ONCE)).all()
        if not rows:
            return
        yield [entry_of_row(row) for row in rows]
        last = rows[-1].id


def _drain(settings: Settings) -> None:
    """Wait until what the log has now is in the database; without a drainer, drain it here."""
    from bc_pipeline.prediction_log.drain import Drainer

    folder = segments.spool_folder(settings.records)
    sizes = {path.name: path.stat().st_size for path in segments.list_segments(folder)}
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        offsets = segments.read_offsets(folder)
        waiting = [
            path.name
            for path in segments.list_segments(folder)
            if offsets.get(path.name, len(MAGIC)) < sizes.get(path.name, 0)
        ]
        if not waiting:
            return
        if _is_idle(settings.records):
            drainer = Drainer(settings, threading.Event())
            done = drainer.run(once=True)
            if not done:
                raise _not_drained()
        elif time.monotonic() > deadline:
            raise _not_drained()
        else:
            time.sleep(_PAUSE_SECONDS)


def _not_drained() -> RecordsAway:
    return RecordsAway(
        "Entries of the prediction log do not reach the database.",
        "`bc-pipeline records status` says why; then run the erasure again.",
    )


def _is_idle(records: Path) -> bool:
    """Whether no drainer runs."""
    try:
        with FileLock(records / segments.DRAIN_LOCK, timeout=0):
            return True
    except Timeout:
        return False


def _erase_in_segments(settings: Settings, ids: frozenset[str]) -> set[str]:
    """Overwrite the entries, which the database has by now; returns the ids of those found."""
    gone: set[str] = set()
    for path in segments.list_segments(segments.spool_folder(settings.records)):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            data = stream.read()
            for frame in read_frames(data[len(MAGIC) :], closed=True):
                if frame.entry is not None and frame.entry.id in ids:
                    erased = erase_payload(frame.end - frame.start)
                    os.pwrite(stream.fileno(), erased, len(MAGIC) + frame.start)
                    gone.add(frame.entry.id)
            os.fsync(stream.fileno())
    return gone


def _erase_quarantined(settings: Settings, ids: frozenset[str]) -> set[str]:
    gone: set[str] = set()
    for path, entries in _quarantined(settings):
        if matching := {entry.id for entry in entries} & ids:
            path.unlink(missing_ok=True)
            gone |= matching
    return gone
