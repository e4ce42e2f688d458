"""The drainer: takes records from the log into the database, and tells how that goes.

Reading a record twice is only wasteful, as its row is inserted once: the drainer may die at
any moment, and offsets need not be exact.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from bc_pipeline.artifacts.files import FILE_MODE, make_directory, write_atomic
from bc_pipeline.errors import RecordsAway
from bc_pipeline.records import segments
from bc_pipeline.records.database import open_database
from bc_pipeline.records.frames import MAGIC, Found, frame, read_frames
from bc_pipeline.records.insert import store
from bc_pipeline.records.retention import horizon, purge, purge_quarantine
from bc_pipeline.records.status import Status, read_status, write_status
from bc_pipeline.records.summary import OutcomeSummary
from bc_pipeline.settings import Settings

_log = structlog.get_logger()
# Larger than the largest frame, so that every read holds a whole one.
_READ_BYTES = 2 << 20
_BATCH = 4_000
_PAUSE_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_STATUS_SECONDS = 1.0
_SUMMARY_SECONDS = 5.0
_RETENTION_SECONDS = 3600.0
_ABANDONED_SECONDS = 60.0


class Drainer:
    """Drains one log; only one at a time does, others wait for it to end."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._records = settings.records
        self._folder = make_directory(segments.spool_folder(settings.records))
        self._database = open_database(settings)
        self._offsets: dict[str, int] = {}
        self._parent = os.getppid()
        self._migrated = False
        before = read_status(self._records) or Status("ok", 0.0)
        self._drained, self._damaged, self._refused = before.drained, before.damaged, before.refused
        self._summary = OutcomeSummary(self._database, before.outcomes, _SUMMARY_SECONDS)
        self._state: Literal["ok", "away", "unknown"] = "unknown"
        self._since, self._error = time.time(), ""
        self._due = {"status": 0.0, "retention": 0.0}

    def run(self, *, once: bool = False) -> bool:
        """Drain until told to stop, and then once more what is there.

        Parameters
        ----------
        once : bool
            Drain what is there, and end.

        Returns
        -------
        bool
            Whether all that was there at the end is in the database.
        """
        with self._alone() as ours:
            if not ours:
                return True
            self._offsets = segments.read_offsets(self._folder)
            while True:
                last = once or self._told_to_end()
                drained = self._turn()
                if last:
                    self._tell(time.monotonic())
                    return drained
                self._stop.wait(_RETRY_SECONDS if not drained else _PAUSE_SECONDS)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the drainers' lock; yields False where we were stopped while waiting for it."""
        path = self._records / segments.DRAIN_LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stop.wait(_PAUSE_SECONDS)
                    if self._told_to_end():
                        yield False
                        return
                else:
                    yield True
                    return
        finally:
            os.close(descriptor)

    def _told_to_end(self) -> bool:
        """Told so, or left alone: whoever starts the service again starts a drainer too."""
        return self._stop.is_set() or os.getppid() != self._parent

    def _turn(self) -> bool:
        """Everything that is there once; False where the database is away."""
        try:
            if not self._migrated:
                self._database.migrate()
                self._migrated = True
            for path in segments.listed(self._folder):
                self._drain(path)
            self._look_after()
        except RecordsAway:
            self._became("away", self._database.last_error)
        except OSError as error:
            self._became("away", errno.errorcode.get(error.errno or 0, "OSError"))
        else:
            self._became("ok", "")
        self._tell_when_due()
        return self._error == ""

    def _drain(self, path: Path) -> None:
        # Asked first: what a dead worker wrote is all there when it is read after that.
        written = segments.is_held(path)
        offset = self._offsets.get(path.name, 0)
        with path.open("rb") as stream:
            if offset == 0 and stream.read(len(MAGIC)) == MAGIC:
                offset = len(MAGIC)
            while True:
                stream.seek(offset)
                data = stream.read(_READ_BYTES)
                ended = len(data) < _READ_BYTES
                for part in _batches(read_frames(data, closed=ended and not written)):
                    self._take(path, offset, data, part)
                    self._offsets[path.name] = offset + part[-1].end
                    self._write_offsets()
                    self._tell_when_due()
                moved = self._offsets.get(path.name, offset) - offset
                offset += moved
                if ended or not moved:
                    break
        if not written:
            if torn := len(data) - moved:
                _log.info("unfinished record dropped", segment=path.name, bytes=torn)
            path.unlink()
            self._offsets.pop(path.name, None)
            self._write_offsets()

    def _take(self, path: Path, base: int, data: bytes, part: list[Found]) -> None:
        """Put a batch into the database, and aside what cannot go there."""
        records = [found.logged for found in part if found.logged is not None]
        refused = store(self._database, records) if records else []
        self._drained += len(records) - len(refused)
        for found in part:
            if found.logged is None:
                start = base + found.start
                self._set_aside(f"{path.stem}-{start}.damaged", data[found.start : found.end])
                self._damaged += 1
        for record in refused:
            self._set_aside(f"{record.id}.refused", frame(record))
            self._refused += 1

    def _set_aside(self, name: str, data: bytes) -> None:
        write_atomic(segments.quarantine_folder(self._records) / name, data)
        _log.error("records set aside", file=name, bytes=len(data))

    def _write_offsets(self) -> None:
        temporary = self._folder / f".{segments.OFFSETS}"
        try:
            temporary.write_bytes(msgspec.json.encode(self._offsets))
            temporary.replace(self._folder / segments.OFFSETS)
        except OSError as error:
            # On a full disk the log must be drained all the more.
            _log.warning("offsets not written", error=error.strerror)

    def _look_after(self) -> None:
        """What is done now and then: the counts of outcomes, retention, leftovers."""
        now = time.monotonic()
        self._summary.refresh()
        if now >= self._due["retention"]:
            segments.remove_abandoned(self._folder, time.time() - _ABANDONED_SECONDS)
            oldest = horizon(self._settings)
            if oldest is not None:
                files = len(purge_quarantine(self._records, oldest))
                removed = purge(self._database, oldest)
                if removed or files:
                    _log.info("removed, too old to keep", predictions=removed, set_aside=files)
            self._due["retention"] = now + _RETENTION_SECONDS

    def _became(self, state: Literal["ok", "away"], error: str) -> None:
        self._error = error
        if state != self._state:
            self._state, self._since = state, time.time()
            if state == "away":
                _log.error("records database is away", error=error)
            else:
                _log.info("records database answers")

    def _tell_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._due["status"]:
            self._tell(now)

    def _tell(self, now: float) -> None:
        self._due["status"] = now + _STATUS_SECONDS
        oldest = segments.oldest_waiting(self._folder, self._offsets)
        status = Status(
            database="away" if self._state == "away" else "ok",
            since=self._since,
            error=self._error,
            backlog=segments.backlog(self._folder),
            oldest=max(0.0, time.time() - oldest) if oldest is not None else 0.0,
            drained=self._drained,
            damaged=self._damaged,
            refused=self._refused,
            outcomes=self._summary.counts,
            written_at=time.time(),
        )
        try:
            write_status(self._records, status)
        except OSError as error:
            _log.error("status not written", error=error.strerror)


def _batches(stretches: Iterator[Found]) -> Iterator[list[Found]]:
    part: list[Found] = []
    for found in stretches:
        part.append(found)
        if len(part) == _BATCH:
            yield part
            part = []
    if part:
        yield part
