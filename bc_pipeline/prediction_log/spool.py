"""The prediction log of one worker: entries are written before the answer is sent.

`Spool.append` has called ``write`` when it returns, so killing the process loses no answered
prediction. A power cut may lose what a background thread has not synced yet: about a second.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.files import make_directory
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.frames import encode_frame, encrypt, records_cipher
from bc_pipeline.settings import Settings

_MIB = 1 << 20
_SEGMENT_BYTES = 8 * _MIB
_MAINTENANCE_SECONDS = 1.0
# Bytes that a probe must be able to write before the log counts as writable again.
_PROBE_BYTES = 1 << 16
_BACKLOG_FULL = "too much waits for the database"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class SpoolState(msgspec.Struct, frozen=True):
    """The state that ``/readyz`` and the metrics report.

    Attributes
    ----------
    writable : bool
        Whether the next entry is expected to be written.
    backlog : int
        Bytes of all workers that are not drained yet.
    error : str
        Why the last write failed; empty after a successful one.
    """

    writable: bool
    backlog: int
    error: str


class Spool:
    """Appends entries to its own segment. Not thread-safe."""

    def __init__(
        self, folder: Path, name: str, *, limit: int, cipher: Cipher | None = None
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be part of a file's name.", setting="name")
        self._folder = folder
        self._name = name
        self._encode: Callable[[LogEntry], bytes] = (
            (lambda entry: encode_frame(encrypt(entry, cipher))) if cipher else encode_frame
        )
        self._limit = limit
        self._segment_bytes = min(_SEGMENT_BYTES, max(limit // 8, 1))
        self._descriptor = -1
        self._size = 0
        self._synced = 0
        # Set by the maintenance thread when the segment was deleted.
        self._removed = False
        self._error = ""
        # Bytes that may be written before the backlog limit is reached.
        self._remaining_bytes = limit - segments.backlog_bytes(folder)
        # Finished segments; only the maintenance thread syncs and closes them.
        self._finished: list[int] = []
        self._stop = threading.Event()
        self._begin()
        self._thread = threading.Thread(target=self._maintain, name="records", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, settings: Settings, name: str) -> Spool:
        """Open the log of the worker `name`.

        Raises
        ------
        RecordsAway
            Where its folder cannot be written.
        ConfigError
            Where the encryption key cannot be read.
        """
        cipher = records_cipher(settings)
        folder = segments.spool_folder(settings.records)
        try:
            make_directory(folder)
        except OSError as error:
            raise _unavailable(error) from None
        return cls(folder, name, limit=settings.records_backlog_mb * _MIB, cipher=cipher)

    def append(self, entries: Sequence[LogEntry]) -> None:
        """Write entries; all of them or none.

        Raises
        ------
        RecordsAway
            Where they could not be written, or the backlog is at its limit.
        """
        data = b"".join(map(self._encode, entries))
        if len(data) > self._remaining_bytes:
            self._require_capacity(len(data))
        if self._descriptor < 0:
            self._begin()
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise self._failed(error) from None
        if written != len(data):
            raise self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._size += written
        self._remaining_bytes -= written
        if self._error:
            self._error = ""
        if self._size >= self._segment_bytes:
            self._finish()

    def state(self) -> SpoolState:
        """Return the last known state, without disk access."""
        backlog = self._limit - self._remaining_bytes
        full = self._remaining_bytes <= 0 and not self._removed
        error = self._error or (_BACKLOG_FULL if full else "")
        return SpoolState(not error, backlog, error)

    def close(self) -> None:
        """Sync, close and leave the segment to the drainer."""
        self._finish()
        self._stop.set()
        self._thread.join()

    def _begin(self) -> None:
        try:
            self._descriptor = segments.create_segment(self._folder, self._name)
        except OSError as error:
            self._error = error.strerror or str(error)
            raise _unavailable(error) from None
        self._size = os.fstat(self._descriptor).st_size
        self._synced = 0

    def _finish(self) -> None:
        if self._descriptor >= 0:
            self._finished.append(self._descriptor)
            self._descriptor = -1

    def _failed(self, error: OSError) -> RecordsAway:
        """Truncate a partial write, and finish the segment.

        It is not appended to again: the drainer may have read whole frames of the truncated
        part, and would skip as many bytes of later entries.
        """
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError as second:
            error = second
        self._finish()
        self._error = error.strerror or str(error)
        return _unavailable(error)

    def _require_capacity(self, needed: int) -> None:
        """Start a new segment after the current one was deleted; otherwise raise."""
        if self._removed:
            self._finish()
            self._begin()
            self._removed = False
            self._remaining_bytes = self._limit - segments.backlog_bytes(self._folder)
        if needed > self._remaining_bytes:
            self._error = _BACKLOG_FULL
            raise RecordsAway(
                f"The prediction cannot be logged: {_BACKLOG_FULL}.",
                "The database that the log is drained into is unavailable or too slow.",
            )

    def _maintain(self) -> None:
        """About once a second: sync, close finished segments, measure the backlog."""
        while not self._stop.wait(_MAINTENANCE_SECONDS):
            self._maintain_once()
        self._maintain_once()

    def _maintain_once(self) -> None:
        """Report failures in `state` and go on: this thread must not end."""
        try:
            self._sync_segments()
        except OSError as error:
            self._error = error.strerror or str(error)
        else:
            self._measure_backlog()

    def _sync_segments(self) -> None:
        for _ in range(len(self._finished)):
            descriptor = self._finished.pop(0)
            _sync(descriptor)
            os.close(descriptor)
        descriptor, size = self._descriptor, self._size
        if descriptor >= 0:
            if os.fstat(descriptor).st_nlink == 0:
                self._removed, self._remaining_bytes = True, 0
                self._error = "the segment was removed"
            elif size != self._synced:
                self._synced = size
                _sync(descriptor)

    def _measure_backlog(self) -> None:
        """Measure the backlog; after a failure, probe whether the log is writable again."""
        try:
            if not self._removed:
                self._remaining_bytes = self._limit - segments.backlog_bytes(self._folder)
            if self._error and (self._remaining_bytes > 0 or self._removed):
                _probe_folder(self._folder)
                self._error = ""
        except OSError as error:
            self._error = error.strerror or str(error)


def _sync(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError:
        # The bytes are in the page cache; a lasting fault makes the next write fail.
        return


def _probe_folder(folder: Path) -> None:
    """Write and remove a small file.

    Raises
    ------
    OSError
    """
    path = folder / f".probe-{os.getpid()}"
    try:
        path.write_bytes(bytes(_PROBE_BYTES))
    finally:
        path.unlink(missing_ok=True)


def _unavailable(error: OSError) -> RecordsAway:
    return RecordsAway(
        f"The prediction cannot be logged: {error.strerror or error}.",
        "Check that the folder of the prediction log is writable and has room.",
    )
