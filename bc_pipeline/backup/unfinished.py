"""Hidden files: a backup that is being written, and those that killed processes have left."""

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
from bc_pipeline.backup.age import MAGIC

SUFFIX = ".tar.age"
_MODE = 0o600
# The writer holds a lock on the file, but a network share may hide locks of other machines.
_IDLE_SECONDS = 3600.0


@contextmanager
def unfinished_file(target: Path) -> Iterator[Path]:
    """A hidden file beside the target, which is renamed to it when the block succeeds."""
    with staged_file(target) as staged:
        staged.chmod(_MODE)
        with staged.open("r+b") as stream:
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield staged


def remove_unfinished(target: Path) -> None:
    """Remove the hidden files that killed backups have left in the folder of a target.

    A file is removed only if it has such a name, begins like a backup or is empty, was not
    written to for an hour, and is not locked.
    """
    names = rf"\.({re.escape(target.name)}|.+{re.escape(SUFFIX)})\.[a-z0-9_]{{8}}"
    with suppress(OSError):
        for path in target.parent.iterdir():
            if re.fullmatch(names, path.name):
                # Files of other users, and files that are removed meanwhile, are skipped.
                with suppress(OSError):
                    _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        idle = time.time() - status.st_mtime > _IDLE_SECONDS
        begins_like_one = MAGIC.startswith(os.pread(descriptor, len(MAGIC), 0))
        if stat.S_ISREG(status.st_mode) and idle and begins_like_one:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)
