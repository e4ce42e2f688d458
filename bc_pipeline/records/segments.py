"""Segment files of the prediction log: one being written by each worker, and finished ones.

A worker holds a lock on the segment that it writes. The system lets go of it when the worker
ends in any way, so a segment without a lock has its last byte.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from bc_pipeline.artifacts.files import FILE_MODE
from bc_pipeline.errors import RecordsAway
from bc_pipeline.records.entry import is_id, new_id, time_of
from bc_pipeline.records.frames import (
    ID_AT,
    MAGIC,
    Logged,
    decode,
    frame_end,
    next_frame,
    read_frames,
)

SUFFIX = ".seg"
_HIDDEN = ".part"
OFFSETS = "offsets.json"
DRAIN_LOCK = "drain.lock"
# Up to so many ids, searching for the bytes of each is faster than reading every frame.
_FEW = 64
_LOOK_BYTES = 1 << 16


def spool_folder(records: Path) -> Path:
    return records / "spool"


def quarantine_folder(records: Path) -> Path:
    """Where damaged stretches of the log and records that no database took are kept.

    The name of a file there begins with the id of a segment or a record.
    """
    return records / "quarantine"


def create(folder: Path, name: str) -> int:
    """Make a segment that this process has locked, and open it for appending.

    It gets its final name only once it is locked and begun: nobody may take it for one whose
    worker is dead.
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


def listed(folder: Path) -> list[Path]:
    """Segments, the oldest first."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIX) and is_id(name[:36])]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names)]


def is_held(path: Path) -> bool:
    """Whether a living process has locked a file: a worker its segment, the drainer its lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_abandoned(folder: Path, older_than: float) -> None:
    """Remove segments that were never begun, of workers that died while making them."""
    for path in folder.glob(f"*{_HIDDEN}"):
        if is_id(path.name[:36]) and time_of(path.name) < older_than:
            path.unlink(missing_ok=True)


def read_offsets(folder: Path) -> dict[str, int]:
    """How far each segment is drained, by its name; a segment that is not named is not."""
    try:
        return msgspec.json.decode((folder / OFFSETS).read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        # Only wasteful: what was drained before is drained again.
        return {}


def backlog(folder: Path) -> int:
    """Bytes that wait for the database."""
    offsets = read_offsets(folder)
    waiting = 0
    for path in listed(folder):
        try:
            waiting += max(0, path.stat().st_size - offsets.get(path.name, len(MAGIC)))
        except FileNotFoundError:
            continue
    return waiting


def oldest_waiting(folder: Path, offsets: dict[str, int]) -> float | None:
    """When the oldest record that waits was answered; None where none waits."""
    moments = []
    for path in listed(folder):
        with suppress(FileNotFoundError), path.open("rb") as stream:
            stream.seek(offsets.get(path.name, len(MAGIC)))
            data = stream.read(_LOOK_BYTES)
            first = next((f.logged for f in read_frames(data, closed=False) if f.logged), None)
            if first is not None:
                moments.append(first.at)
    return min(moments, default=None)


def find(folder: Path, wanted: set[str]) -> dict[str, Logged]:
    """Look records up by their ids in all segments.

    Raises
    ------
    RecordsAway
        Where a segment cannot be read.
    """
    found: dict[str, Logged] = {}
    keys = {prediction_id.encode() for prediction_id in wanted}
    for path in reversed(listed(folder)):
        if len(found) == len(keys):
            break
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # Drained and removed meanwhile.
            continue
        except OSError as error:
            raise RecordsAway(f"The prediction log cannot be read: {error.strerror}.") from None
        found |= _find_in(data, keys)
    return found


def _find_in(data: bytes, keys: set[bytes]) -> dict[str, Logged]:
    found: dict[str, Logged] = {}
    for key in keys if len(keys) <= _FEW else ():
        if (logged := _find_one(data, key)) is not None:
            found[logged.id] = logged
    if len(keys) > _FEW:
        offset: int | None = len(MAGIC)
        while offset is not None and offset < len(data):
            end = frame_end(data, offset)
            logged = decode(data, offset, end)
            if logged is None:
                offset = next_frame(data, offset + 1)
                continue
            if logged.id.encode() in keys:
                found[logged.id] = logged
            offset = end
    return found


def _find_one(data: bytes, key: bytes) -> Logged | None:
    at = data.find(key)
    while at >= 0:
        logged = decode(data, at - ID_AT, frame_end(data, at - ID_AT)) if at >= ID_AT else None
        if logged is not None and logged.id.encode() == key:
            return logged
        at = data.find(key, at + 1)
    return None
