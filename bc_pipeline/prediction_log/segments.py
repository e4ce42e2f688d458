"""Segment files of the prediction log: an open one of each worker, and finished ones.

A worker locks the segment that it appends to. The operating system releases the lock when the
worker ends in any way, so an unlocked segment is complete.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.files import FILE_MODE
from bc_pipeline.errors import RecordsAway
from bc_pipeline.prediction_log.entry import id_time, is_id, new_id
from bc_pipeline.prediction_log.frames import (
    ID_AT,
    MAGIC,
    AnyEntry,
    decode_frame,
    frame_end,
    read_frames,
)

SUFFIX = ".seg"
_HIDDEN = ".part"
OFFSETS_FILE = "offsets.json"
DRAIN_LOCK = "drain.lock"
# Up to this many ids, searching for the bytes of each is faster than decoding every frame.
_SEARCH_BY_BYTES_BELOW = 64
_PEEK_BYTES = 1 << 16


def spool_folder(records: Path) -> Path:
    return records / "spool"


def quarantine_folder(records: Path) -> Path:
    """Return the folder of damaged bytes and of entries that the database rejected.

    File names there begin with the id of a segment or of an entry.
    """
    return records / "quarantine"


def create_segment(folder: Path, name: str) -> int:
    """Create a segment, lock it and open it for appending.

    It is renamed to its final name only once it is locked: before, the drainer would take it
    for the segment of a dead worker.
    """
    final = folder / f"{new_id()}-{name}{SUFFIX}"
    hidden = final.with_suffix(_HIDDEN)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(hidden, flags, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.write(descriptor, MAGIC) != len(MAGIC):
            raise OSError("short write")
        os.rename(hidden, final)
    except BaseException:
        os.close(descriptor)
        hidden.unlink(missing_ok=True)
        raise
    return descriptor


def list_segments(folder: Path) -> list[Path]:
    """List the segments, oldest first."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIX) and is_id(name[:36])]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names)]


def is_locked(path: Path) -> bool:
    """Return whether a living process holds a lock on a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_abandoned_segments(folder: Path, older_than: float) -> None:
    """Remove segments whose worker died while creating them."""
    for path in folder.glob(f"*{_HIDDEN}"):
        if is_id(path.name[:36]) and id_time(path.name) < older_than:
            path.unlink(missing_ok=True)


def read_offsets(folder: Path) -> dict[str, int]:
    """Return the drained offset of each segment, by file name; 0 for those not listed."""
    try:
        return msgspec.json.decode((folder / OFFSETS_FILE).read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        # Entries are then drained again, which changes nothing.
        return {}


def backlog_bytes(folder: Path) -> int:
    """Return the number of bytes that are not drained yet."""
    offsets = read_offsets(folder)
    waiting = 0
    for path in list_segments(folder):
        try:
            waiting += max(0, path.stat().st_size - offsets.get(path.name, len(MAGIC)))
        except FileNotFoundError:
            continue
    return waiting


def oldest_undrained_time(folder: Path, offsets: dict[str, int]) -> float | None:
    """Return the answer time of the oldest entry that is not drained; None without one."""
    times = []
    for path in list_segments(folder):
        with suppress(FileNotFoundError), path.open("rb") as stream:
            stream.seek(offsets.get(path.name, len(MAGIC)))
            data = stream.read(_PEEK_BYTES)
            first = next((f.entry for f in read_frames(data, closed=False) if f.entry), None)
            if first is not None:
                times.append(first.at)
    return min(times, default=None)


def find_entries(folder: Path, ids: set[str]) -> dict[str, AnyEntry]:
    """Look entries up by id in all segments.

    Raises
    ------
    RecordsAway
        Where a segment cannot be read.
    """
    entries: dict[str, AnyEntry] = {}
    keys = {prediction_id.encode() for prediction_id in ids}
    for path in reversed(list_segments(folder)):
        if len(entries) == len(keys):
            break
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # The drainer removed the segment after it was listed.
            continue
        except OSError as error:
            raise RecordsAway(f"The prediction log cannot be read: {error.strerror}.") from None
        entries |= _find_in(data, keys)
    return entries


def _find_in(data: bytes, keys: set[bytes]) -> dict[str, AnyEntry]:
    if len(keys) <= _SEARCH_BY_BYTES_BELOW:
        entries = [_find_one(data, key) for key in keys]
    else:
        frames = read_frames(data[len(MAGIC) :], closed=True)
        entries = [f.entry for f in frames if f.entry and f.entry.id.encode() in keys]
    return {entry.id: entry for entry in entries if entry is not None}


def _find_one(data: bytes, key: bytes) -> AnyEntry | None:
    at = data.find(key)
    while at >= 0:
        entry = decode_frame(data, at - ID_AT, frame_end(data, at - ID_AT)) if at >= ID_AT else None
        if entry is not None and entry.id.encode() == key:
            return entry
        at = data.find(key, at + 1)
    return None
