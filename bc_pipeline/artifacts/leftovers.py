"""Temporary files and folders of killed processes, and how they differ from those in use.

A process locks the temporary file or folder that it writes to (`flock`); the lock ends with the
process, however it ends. What has the suffix of a temporary entry and is not locked was left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".staged"


def lock_entry(path: Path, descriptor: int) -> bool:
    """Lock a temporary file or folder that this process has made.

    Returns
    -------
    bool
        False where it was removed before it was locked: make another one.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        # A file system without locks, where nothing is ever removed as a leftover.
        return True
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def remove_leftovers(folders: Iterable[Path]) -> list[Path]:
    """Remove what killed processes left directly in some folders.

    Returns
    -------
    list of Path
        What was removed.
    """
    return [
        entry
        for folder in folders
        for entry in sorted(folder.glob(f".*{SUFFIX}"))
        if _remove_unlocked(entry)
    ]


def _remove_unlocked(entry: Path) -> bool:
    try:
        descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Renamed to its final name since it was listed: it is no leftover.
        if os.stat(entry).st_ino != os.fstat(descriptor).st_ino:
            return False
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
