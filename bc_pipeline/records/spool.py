"""The prediction log of one worker: whole frames are with the system before it answers.

``append`` has called ``write`` when it returns, so killing the process takes nothing that was
answered; a power cut may take what a background thread has not yet synced, about a second.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.encryption import Cipher, load_cipher
from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.records import segments
from bc_pipeline.records.entry import Entry
from bc_pipeline.records.frames import frame, seal
from bc_pipeline.settings import Settings

_MIB = 1 << 20
_SEGMENT_BYTES = 8 * _MIB
_TEND_SECONDS = 1.0
# What must be free before a log that could not be written is called writable again.
_PROBE_BYTES = 1 << 16
_FULL = "too much waits for the database"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class SpoolState(msgspec.Struct, frozen=True):
    """What ``/readyz`` and the metrics tell.

    Attributes
    ----------
    writable : bool
        Whether the next record would be taken, as far as is known.
    backlog : int
        Bytes of all workers that wait for the database.
    error : str
        Why the last record was not taken; empty once one is again.
    """

    writable: bool
    backlog: int
    error: str


class Spool:
    """Appends records to a segment of its own. To be used from one thread."""

    def __init__(
        self, folder: Path, name: str, *, limit: int, cipher: Cipher | None = None
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be part of a file's name.", setting="name")
        self._folder = folder
        self._name = name
        self._cipher = cipher
        self._limit = limit
        self._segment_bytes = min(_SEGMENT_BYTES, max(limit // 8, 1))
        self._descriptor = -1
        self._size = 0
        self._synced = 0
        # The segment was removed; the tending thread found that, and left no room.
        self._lost = False
        self._error = ""
        # Bytes that may still be written before the backlog is measured again.
        self._room = limit - segments.backlog(folder)
        # Segments that are finished: the tending thread syncs and closes them, nobody else.
        self._finished: list[int] = []
        self._stop = threading.Event()
        self._begin()
        self._tender = threading.Thread(target=self._tend, name="records", daemon=True)
        self._tender.start()

    @classmethod
    def open(cls, settings: Settings, name: str) -> Spool:
        """Open the log of the worker `name`.

        Raises
        ------
        RecordsAway
            Where its folder cannot be written.
        ConfigError
            Where the key to encrypt with cannot be read.
        """
        key_file = settings.records_key_file
        cipher = load_cipher(key_file, "BC_RECORDS_KEY_FILE") if key_file else None
        folder = segments.spool_folder(settings.records)
        try:
            make_directory(folder)
        except OSError as error:
            raise _away(error) from None
        return cls(folder, name, limit=settings.records_backlog_mb * _MIB, cipher=cipher)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write records; all of them or none.

        Raises
        ------
        RecordsAway
            Where they could not be written, or too much waits for the database already.
        """
        if self._cipher is None and len(entries) == 1:
            data = frame(entries[0])
        else:
            data = self._frames(entries)
        if len(data) > self._room:
            self._make_room(len(data))
        if self._descriptor < 0:
            self._begin()
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise self._failed(error) from None
        if written != len(data):
            raise self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._size += written
        self._room -= written
        if self._error:
            self._error = ""
        if self._size >= self._segment_bytes:
            self._finish()

    def state(self) -> SpoolState:
        """What is known at this moment, without asking the disk."""
        backlog = self._limit - self._room
        full = self._room <= 0 and not self._lost
        error = self._error or (_FULL if full else "")
        return SpoolState(not error, backlog, error)

    def close(self) -> None:
        """Sync, and leave the segment to the drainer."""
        self._finish()
        self._stop.set()
        self._tender.join()

    def _frames(self, entries: Sequence[Entry]) -> bytes:
        if self._cipher is None:
            return b"".join([frame(entry) for entry in entries])
        return b"".join([frame(seal(entry, self._cipher)) for entry in entries])

    def _begin(self) -> None:
        try:
            self._descriptor = segments.create(self._folder, self._name)
        except OSError as error:
            self._error = error.strerror or str(error)
            raise _away(error) from None
        self._size = os.fstat(self._descriptor).st_size
        self._synced = 0

    def _finish(self) -> None:
        if self._descriptor >= 0:
            self._finished.append(self._descriptor)
            self._descriptor = -1

    def _failed(self, error: OSError) -> RecordsAway:
        """Take back what was written in part.

        The segment ends there: a drainer may have read whole frames of the part already, and
        would skip as many bytes of what comes after.
        """
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError as second:
            error = second
        self._finish()
        self._error = error.strerror or str(error)
        return _away(error)

    def _make_room(self, needed: int) -> None:
        """Go on after the segment was removed under us; otherwise refuse."""
        if self._lost:
            self._finish()
            self._begin()
            self._lost = False
            self._room = self._limit - segments.backlog(self._folder)
        if needed > self._room:
            self._error = _FULL
            raise RecordsAway(
                f"The prediction cannot be logged: {_FULL}.",
                "The database that the log is drained into is away, or too slow.",
            )

    def _tend(self) -> None:
        """About once a second: sync, close what is finished, measure the backlog."""
        while not self._stop.wait(_TEND_SECONDS):
            self._tend_once()
        self._tend_once()

    def _tend_once(self) -> None:
        """Whatever goes wrong is told, and tried again: without this thread nothing goes on."""
        try:
            self._tend_segments()
        except OSError as error:
            self._error = error.strerror or str(error)
        else:
            self._measure()

    def _tend_segments(self) -> None:
        for _ in range(len(self._finished)):
            descriptor = self._finished.pop(0)
            _sync(descriptor)
            os.close(descriptor)
        descriptor, size = self._descriptor, self._size
        if descriptor >= 0:
            if os.fstat(descriptor).st_nlink == 0:
                self._lost, self._room = True, 0
                self._error = "the segment was removed"
            elif size != self._synced:
                self._synced = size
                _sync(descriptor)

    def _measure(self) -> None:
        """Measure the backlog, and whether a log that failed could be written again."""
        try:
            if not self._lost:
                self._room = self._limit - segments.backlog(self._folder)
            if self._error and (self._room > 0 or self._lost):
                _probe(self._folder)
                self._error = ""
        except OSError as error:
            self._error = error.strerror or str(error)


def _sync(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError:
        # The bytes are with the system; the next write will tell what is wrong.
        return


def _probe(folder: Path) -> None:
    """Write and remove a small file; raises OSError where that does not work."""
    path = folder / f".probe-{os.getpid()}"
    try:
        path.write_bytes(bytes(_PROBE_BYTES))
    finally:
        path.unlink(missing_ok=True)


def _away(error: OSError) -> RecordsAway:
    return RecordsAway(
        f"The prediction cannot be logged: {error.strerror or error}.",
        "See that the folder of the prediction log can be written and has room.",
    )
