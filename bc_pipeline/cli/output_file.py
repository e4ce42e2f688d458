"""Files that a user names to be written.

A regular file is replaced as a whole, and only where the user says so; a link stays, and the file
that it names is replaced. What is no regular file, such as a pipe, a terminal or ``/dev/null``,
stays too: the content is written into it once it is complete.
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from bc_pipeline.errors import ConfigError
from bc_pipeline.tables.input_file import kind_of, require_readable_name

# How long a reader of a pipe may take to come, or to read on.
READER_SECONDS = 30.0
_RETRY_SECONDS = 0.05
_COPY_BYTES = 1 << 16
_LINKS = 40
_NAME_BYTES = 255
# A process's own open files, by which a shell names them.
_OPEN_FILE = re.compile(r"/(?:proc/(?:self|thread-self|\d+)/fd|dev/fd)/\d+")


@dataclass(frozen=True)
class OutputFile:
    """The file or stream that a command writes to.

    Attributes
    ----------
    path : Path
        A regular file, or one that does not exist yet, in a folder that does.
    copied : bool
        Whether its content is copied to what the user named, and the file is then removed.
    is_standard_output : bool
        Whether the user named the standard output; a report belongs elsewhere then.
    """

    path: Path
    copied: bool = False
    is_standard_output: bool = False


@contextmanager
def output_file(
    named: Path,
    *,
    force: bool,
    ask: bool = True,
    side: Callable[[Path], Path] | None = None,
    source: Path | None = None,
    suffix: str = "",
    setting: str = "OUT",
) -> Iterator[OutputFile]:
    """Yield the path to write for the file that a user named.

    Parameters
    ----------
    force : bool
        Whether existing files may be replaced.
    ask : bool
        Whether a user at a terminal confirms it otherwise.
    side : callable, optional
        Gives a file beside the path that is written too.
    source : Path, optional
        What is read; it is never replaced.
    suffix : str
        Of a file whose content is copied to a device or pipe without one.
    setting : str
        Name of the argument, for the error.

    Raises
    ------
    ConfigError
        Where the path cannot be written, would be replaced, or is the source.
    """
    require_readable_name(named, setting)
    status = _status(named, setting)
    if source is not None and status is not None:
        _require_other(named, status, source, setting)
    kind = "" if status is None else kind_of(status.st_mode)
    if kind in ("a folder", "a socket") or (status and stat.S_ISBLK(status.st_mode)):
        raise ConfigError(f"{named} is {kind}, not a file.", "Name a file.", setting=setting)
    if status is not None and (kind or _is_open_file(named)):
        with tempfile.TemporaryDirectory(prefix="bc-pipeline-") as folder:
            path = Path(folder) / (named.name if named.suffix else f"{named.name}{suffix}")
            yield OutputFile(path, True, _is_standard_output(status))
            _copy_into(path, named, setting)
        return
    path = _follow(named, setting)
    _require_folder(path, setting)
    existing = [path] if status is not None else []
    if side is not None:
        existing += _existing_side(side(path), source, setting)
    if existing and not force:
        _ask_to_replace(existing, setting, ask=ask)
    yield OutputFile(path)


def _existing_side(path: Path, source: Path | None, setting: str) -> list[Path]:
    status = _status(path, setting)
    if status is None and not path.is_symlink():
        return []
    if status is None or path.is_symlink() or not stat.S_ISREG(status.st_mode):
        raise ConfigError(
            f"{path} is no file, and would be written too.",
            "Move it, or name another output.",
            setting=setting,
        )
    if source is not None:
        _require_other(path, status, source, setting)
    return [path]


def keep(path: Path) -> str:
    """Move a file to a temporary folder that stays; returns its new path."""
    folder = Path(tempfile.mkdtemp(prefix="bc-pipeline-"))
    return str(path.replace(folder / path.name))


def require_parent(folder: Path, setting: str) -> None:
    """Refuse a folder to write to whose parent is missing: the path may be mistyped.

    Raises
    ------
    ConfigError
    """
    require_readable_name(folder, setting)
    status = _status(folder, setting)
    if status is None:
        _require_folder(folder, setting)
    elif not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{folder} is no folder.", "Name a folder.", setting=setting)


def _status(path: Path, setting: str) -> os.stat_result | None:
    """Status of what a path names, links followed; None where there is nothing."""
    if len(os.fsencode(path.name)) > _NAME_BYTES:
        raise ConfigError(
            f"The name of the file to write would have over {_NAME_BYTES} bytes.",
            "Give a shorter name.",
            setting=setting,
        )
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", "Name a file.", setting=setting
        ) from None


def _require_other(path: Path, status: os.stat_result, source: Path, setting: str) -> None:
    try:
        read = os.stat(source)
    except OSError:
        return
    if stat.S_ISREG(read.st_mode) and os.path.samestat(read, status):
        raise ConfigError(f"{path} is what is read.", "Name another output.", setting=setting)


def _links(path: Path) -> Iterator[Path]:
    """The path, and what it links to, one after the other."""
    for _ in range(_LINKS):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _is_open_file(named: Path) -> bool:
    """Whether a path leads through a process's list of open files, as ``/dev/stdout`` does."""
    return any(_OPEN_FILE.fullmatch(os.path.normpath(path.absolute())) for path in _links(named))


def _is_standard_output(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(1))
    except OSError:
        return False


def _follow(named: Path, setting: str) -> Path:
    """The file that a path names, links followed; it may be missing."""
    try:
        *_, last = _links(named.absolute())
    except OSError as error:
        raise ConfigError(
            f"{named} cannot be written: {error.strerror}.", "Name a file.", setting=setting
        ) from None
    return last


def _require_folder(path: Path, setting: str) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        reason = f"{folder} is no folder" if folder.exists() else f"There is no folder {folder}"
        raise ConfigError(f"{reason}.", "Make it, or name another file.", setting=setting)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"The folder {folder} cannot be written.", "Name another file.", setting=setting
        )


def _ask_to_replace(existing: Sequence[Path], setting: str, *, ask: bool) -> None:
    names = " and ".join(map(str, existing))
    if ask and sys.stdin.isatty() and sys.stderr.isatty():
        if typer.confirm(f"Replace {names}?", err=True):
            return
        raise ConfigError(f"{names}: not replaced.", "Give another name.", setting=setting)
    raise ConfigError(f"{names} exists already.", "Give another name, or --force.", setting=setting)


def _copy_into(path: Path, named: Path, setting: str) -> None:
    """Write a file's bytes into a device or pipe, or into a file that is open already."""
    try:
        target = _open_for_copy(named)
        try:
            with path.open("rb") as source:
                _copy(source.fileno(), target)
        finally:
            os.close(target)
    except TimeoutError:
        raise ConfigError(
            f"Nobody read {named} for {READER_SECONDS:g} s.", "Start its reader.", setting=setting
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{named} cannot be written: {error.strerror}.", "Name a file.", setting=setting
        ) from None


def _open_for_copy(named: Path) -> int:
    # An open file is not opened again: that would write at its start.
    own = next((int(link.name) for link in _links(named) if _is_own(link)), None)
    if own is not None:
        return os.dup(own)
    deadline = time.monotonic() + READER_SECONDS
    while True:
        try:
            return os.open(named, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            # A named pipe without a reader.
            if error.errno != errno.ENXIO:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_RETRY_SECONDS)


def _is_own(link: Path) -> bool:
    path = os.path.normpath(link.absolute())
    own = ("/proc/self/", "/proc/thread-self/", "/dev/fd/", f"/proc/{os.getpid()}/")
    return bool(_OPEN_FILE.fullmatch(path)) and path.startswith(own)


def _copy(source: int, target: int) -> None:
    writable = select.poll()
    writable.register(target, select.POLLOUT)
    # A pipe that is ready for writing accepts PIPE_BUF bytes without blocking (POSIX).
    size = _COPY_BYTES if stat.S_ISREG(os.fstat(target).st_mode) else select.PIPE_BUF
    while data := os.read(source, size):
        while data:
            if not writable.poll(READER_SECONDS * 1000):
                raise TimeoutError
            try:
                data = data[os.write(target, data) :]
            except BlockingIOError:
                continue
