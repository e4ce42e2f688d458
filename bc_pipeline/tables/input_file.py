"""Files that a user names to be read: regular files, and pipes, which are spooled.

A table is read more than once and with seeking, so the content of a pipe goes to a temporary
file. Devices, sockets and folders hold no table, and a pipe may never end: both are refused.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bc_pipeline.errors import ConfigError
from bc_pipeline.tables.file_names import name_defect, printable_name

PIPE_BYTES = 1 << 30
# After so long without data it is assumed that nobody writes to a pipe.
PIPE_IDLE_SECONDS = 30.0
PIPE_SECONDS = 600.0
_READ_BYTES = 1 << 18
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a pipe"),
)


def kind_of(mode: int) -> str:
    """The kind of a file, by the mode that ``stat`` reports; empty for a regular file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "")


def irregular(path: Path) -> str:
    """Why a path cannot be read as a file, such as ``is a folder``; empty for a regular file."""
    try:
        kind = kind_of(os.stat(path).st_mode)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    return f"is {kind}" if kind else ""


def require_readable_name(path: Path, setting: str) -> None:
    """Refuse a name that no message and no report could hold.

    Raises
    ------
    ConfigError
    """
    if defect := name_defect(str(path)):
        raise ConfigError(f"{printable_name(str(path))} {defect}", setting=setting)


@contextmanager
def input_file(path: Path, setting: str = "file") -> Iterator[Path]:
    """Yield a regular file with the content of what a user named.

    Parameters
    ----------
    setting : str
        Name of the argument, for the error.

    Raises
    ------
    ConfigError
        Where it is a device, a socket or a folder, its name cannot be used, or a pipe does not
        end in time or within `PIPE_BYTES`.
    """
    require_readable_name(path, setting)
    try:
        kind = kind_of(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            # The reader reports the error, with the file's name.
            kind = ""
        else:
            raise ConfigError(
                f"{path} cannot be opened: {error.strerror}.", "Name a file.", setting=setting
            ) from None
    if not kind:
        yield path
    elif kind == "a pipe":
        with tempfile.TemporaryDirectory(prefix="bc-pipeline-") as folder:
            # The shell's `<(...)` is /dev/fd/63, say: messages and reports need a better name.
            spooled = Path(folder) / ("pipe" if path.name.isdigit() else path.name)
            _spool(path, spooled, setting)
            yield spooled
    else:
        raise ConfigError(
            f"{path} is {kind}, not a file.", "Name a file, or a pipe.", setting=setting
        )


def require_file(path: Path, setting: str) -> None:
    """Refuse a path that names something else than a regular file; a missing one passes.

    Raises
    ------
    ConfigError
    """
    require_readable_name(path, setting)
    try:
        kind = kind_of(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        kind = f"not usable ({error.strerror})"
    if kind:
        raise ConfigError(f"{path} is {kind}, not a file.", "Name a file.", setting=setting)


def _spool(path: Path, target: Path, setting: str) -> None:
    # Opening a named pipe would otherwise wait until somebody writes to it.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}.", setting=setting) from None
    try:
        with target.open("wb") as spool:
            for data in _parts_of_pipe(descriptor, path, setting):
                spool.write(data)
    except OSError as error:
        raise ConfigError(
            f"The pipe {path} cannot be stored in {target.parent.parent}: {error.strerror}.",
            "Let TMPDIR name a folder with room for it.",
            setting=setting,
        ) from None
    finally:
        os.close(descriptor)


def _parts_of_pipe(descriptor: int, path: Path, setting: str) -> Iterator[bytes]:
    """Data that is written to a pipe until its writers close it."""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + PIPE_SECONDS
    size = 0
    while True:
        if not ready.poll(PIPE_IDLE_SECONDS * 1000):
            raise _refuse_pipe(path, f"had no data for {PIPE_IDLE_SECONDS:g} s", setting)
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            return
        size += len(data)
        if size > PIPE_BYTES:
            raise _refuse_pipe(path, f"gave more than {PIPE_BYTES} bytes", setting)
        if time.monotonic() > deadline:
            raise _refuse_pipe(path, f"did not end within {PIPE_SECONDS:g} s", setting)
        yield data


def _refuse_pipe(path: Path, reason: str, setting: str) -> ConfigError:
    return ConfigError(
        f"The pipe {path} {reason}.", "Write its content to a file, and name that.", setting=setting
    )
