"""The drainer: moves entries of the log into the database and writes its status.

Inserting an entry twice changes nothing, so the drainer may be killed at any time and its
offsets need not be exact.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import msgspec
import structlog
from filelock import FileLock, Timeout

from bc_pipeline.artifacts.files import FILE_MODE, make_directory, write_atomic
from bc_pipeline.errors import RecordsAway
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.frames import MAGIC, FrameRange, encode_frame, read_frames
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.outcome_counts import Counts, OutcomeCounter
from bc_pipeline.prediction_log.pauses import DECODED, in_parts
from bc_pipeline.prediction_log.retention import purge, purge_quarantine, retention_cutoff
from bc_pipeline.prediction_log.status import Status, read_status, write_status
from bc_pipeline.settings import Settings

_log = structlog.get_logger()
# Larger than the largest frame: every read holds at least one whole frame.
_READ_BYTES = 2 << 20
_BATCH = 4_000
_PAUSE_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_STATUS_SECONDS = 1.0
_SUMMARY_SECONDS = 5.0
_RETENTION_SECONDS = 3600.0
_ABANDONED_SECONDS = 60.0


class Drainer:
    """Drains one log; a lock lets one process drain at a time."""

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
        self._outcome_counter = OutcomeCounter(
            self._database, Counts(before.outcomes, before.recent_outcomes), _SUMMARY_SECONDS
        )
        self._state: Literal["ok", "away", "unknown"] = "unknown"
        self._since, self._error = time.time(), ""
        self._due = {"status": 0.0, "retention": 0.0}

    def run(self, *, once: bool = False) -> bool:
        """Drain until a stop is requested, then drain once more.

        Parameters
        ----------
        once : bool
            Drain once and return.

        Returns
        -------
        bool
            Whether every entry is in the database.
        """
        lock = FileLock(self._records / segments.DRAIN_LOCK, mode=FILE_MODE)
        try:
            lock.acquire(poll_interval=_PAUSE_SECONDS, cancel_check=self._should_stop)
        except Timeout:
            # A stop was requested while another process drained.
            return True
        with lock:
            self._offsets = segments.read_offsets(self._folder)
            while True:
                last = once or self._should_stop()
                drained = self._drain_all()
                if last:
                    self._write_status(time.monotonic())
                    return drained
                self._stop.wait(_RETRY_SECONDS if not drained else _PAUSE_SECONDS)

    def close(self) -> None:
        self._database.close()

    def _should_stop(self) -> bool:
        """Stop on request, or when the parent has died: its successor starts another drainer."""
        return self._stop.is_set() or os.getppid() != self._parent

    def _drain_all(self) -> bool:
        """Drain every segment once; return False where the database is unavailable."""
        try:
            if not self._migrated:
                self._database.migrate()
                self._migrated = True
            for path in segments.list_segments(self._folder):
                self._drain(path)
            self._run_periodic_tasks()
        except RecordsAway:
            self._set_state("away", self._database.last_error)
        except OSError as error:
            self._set_state("away", errno.errorcode.get(error.errno or 0, "OSError"))
        else:
            self._set_state("ok", "")
        self._write_status_if_due()
        return self._error == ""

    def _drain(self, path: Path) -> None:
        # Checked before reading: once the lock is gone, the segment is complete.
        is_open = segments.is_locked(path)
        offset = self._offsets.get(path.name, 0)
        with path.open("rb") as stream:
            if offset == 0 and stream.read(len(MAGIC)) == MAGIC:
                offset = len(MAGIC)
            while True:
                stream.seek(offset)
                data = stream.read(_READ_BYTES)
                at_end = len(data) < _READ_BYTES
                frames = read_frames(data, closed=at_end and not is_open)
                if at_end:
                    # More than this would have to be caught up, without pauses.
                    frames = chain.from_iterable(in_parts(frames, DECODED))
                while batch := list(islice(frames, _BATCH)):
                    self._insert_batch(path, offset, data, batch, with_pauses=at_end)
                    self._offsets[path.name] = offset + batch[-1].end
                    self._write_offsets()
                    self._write_status_if_due()
                moved = self._offsets.get(path.name, offset) - offset
                offset += moved
                if at_end or not moved:
                    break
        if not is_open:
            if torn := len(data) - moved:
                _log.info("unfinished record dropped", segment=path.name, bytes=torn)
            path.unlink()
            self._offsets.pop(path.name, None)
            self._write_offsets()

    def _insert_batch(
        self, path: Path, base: int, data: bytes, batch: list[FrameRange], *, with_pauses: bool
    ) -> None:
        """Insert a batch; quarantine damaged ranges and entries that the database rejects."""
        records = [frame.entry for frame in batch if frame.entry is not None]
        refused = (
            insert_durably(self._database, records, with_pauses=with_pauses) if records else []
        )
        self._drained += len(records) - len(refused)
        for frame in batch:
            if frame.entry is None:
                start = base + frame.start
                self._quarantine(f"{path.stem}-{start}.damaged", data[frame.start : frame.end])
                self._damaged += 1
        for record in refused:
            self._quarantine(f"{record.id}.refused", encode_frame(record))
            self._refused += 1

    def _quarantine(self, name: str, data: bytes) -> None:
        write_atomic(segments.quarantine_folder(self._records) / name, data)
        _log.error("entries quarantined", file=name, bytes=len(data))

    def _write_offsets(self) -> None:
        temporary = self._folder / f".{segments.OFFSETS_FILE}"
        try:
            temporary.write_bytes(msgspec.json.encode(self._offsets))
            temporary.replace(self._folder / segments.OFFSETS_FILE)
        except OSError as error:
            # Draining goes on: on a full disk it is what frees space.
            _log.warning("offsets not written", error=error.strerror)

    def _run_periodic_tasks(self) -> None:
        """Refresh the counts of outcomes; apply retention; remove abandoned segments."""
        now = time.monotonic()
        self._outcome_counter.refresh()
        if now >= self._due["retention"]:
            segments.remove_abandoned_segments(self._folder, time.time() - _ABANDONED_SECONDS)
            oldest = retention_cutoff(self._settings)
            if oldest is not None:
                files = len(purge_quarantine(self._records, oldest))
                removed = purge(self._database, oldest)
                if removed or files:
                    _log.info("removed, too old to keep", predictions=removed, quarantined=files)
            self._due["retention"] = now + _RETENTION_SECONDS

    def _set_state(self, state: Literal["ok", "away"], error: str) -> None:
        self._error = error
        if state != self._state:
            self._state, self._since = state, time.time()
            if state == "away":
                _log.error("records database is unreachable", error=error)
            else:
                _log.info("records database answers")

    def _write_status_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._due["status"]:
            self._write_status(now)

    def _write_status(self, now: float) -> None:
        self._due["status"] = now + _STATUS_SECONDS
        oldest = segments.oldest_undrained_time(self._folder, self._offsets)
        status = Status(
            database="away" if self._state == "away" else "ok",
            since=self._since,
            error=self._error,
            backlog=segments.backlog_bytes(self._folder),
            oldest=max(0.0, time.time() - oldest) if oldest is not None else 0.0,
            drained=self._drained,
            damaged=self._damaged,
            refused=self._refused,
            outcomes=self._outcome_counter.counts.total,
            recent_outcomes=self._outcome_counter.counts.recent,
            written_at=time.time(),
        )
        try:
            write_status(self._records, status)
        except OSError as error:
            _log.error("status not written", error=error.strerror)
