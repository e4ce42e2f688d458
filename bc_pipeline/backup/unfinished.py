"""The file that a backup is written to before it gets its name, and those that were left so."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bc_pipeline.artifacts.files import staged_file
from bc_pipeline.backup.stream import MAGIC

SUFFIX = ".bcbackup"
_MODE = 0o600
# Whoever writes holds a lock, which a network share may not show on other machines.
_IDLE_SECONDS = 3600.0


@contextmanager
def unfinished_file(target: Path) -> Iterator[Path]:
    """A hidden file beside a backup that gets its name when the block ends well."""
    with staged_file(target) as staged:
        staged.chmod(_MODE)
        with staged.open("r+b") as stream:
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield staged


def remove_unfinished(target: Path) -> None:
    """Remove what backups that were killed have left in a folder, as hidden files.

    Only what bears such a name, begins like a backup or is empty, was not written to for an
    hour, and is locked by nobody.
    """
    names = rf"\.({re.escape(target.name)}|.+{re.escape(SUFFIX)})\.[a-z0-9_]{{8}}"
    with suppress(OSError):
        for path in target.parent.iterdir():
            if re.fullmatch(names, path.name):
                # It may be another user's, or be gone: then it stays theirs.
                with suppress(OSError):
                    _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        idle = time.time() - found.st_mtime > _IDLE_SECONDS
        if stat.S_ISREG(found.st_mode) and idle and MAGIC.startswith(_first(descriptor)):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def _first(descriptor: int) -> bytes:
    return os.pread(descriptor, len(MAGIC), 0)
