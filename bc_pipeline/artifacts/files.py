"""Writing to the volume so that a crash at any moment leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from filelock import FileLock, Timeout

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.errors import ArtifactCorrupt, NotStored, TransientError

FILE_MODE = 0o640
DIRECTORY_MODE = 0o2775
R = TypeVar("R", bound=Record)


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_directory(path: Path) -> Path:
    """Make a directory, with its parents, that the group of the volume can write.

    What is there keeps its mode. A new one is given its mode by name: `mkdir` would leave to
    the umask, and to the folder around, whether the group can write and inherits.
    """
    missing = []
    above = path
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise
            continue
        folder.chmod(DIRECTORY_MODE)
    return path


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(
    path: Path, data: bytes, mode: int = FILE_MODE, modified: float | None = None
) -> None:
    """Replace a file as a whole: temporary file beside it, fsync, rename, fsync of the folder.

    Parameters
    ----------
    modified : float, optional
        Modification time, seconds since 1970, that the file has from its first moment on.
    """
    make_directory(path.parent)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(data)
            stream.flush()
            if modified is not None:
                os.utime(descriptor, (modified, modified))
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def encode_record(record: Record) -> bytes:
    """Readable, stable bytes of a record: two-space indent, fields in declared order."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def decode_record(data: bytes, kind: type[R], path: Path) -> R:
    """Read a record strictly.

    Raises
    ------
    ArtifactCorrupt
        Where the bytes are not a record of that kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(
            f"{path.name} is not a valid {kind.__name__.lower()}: {error}.", path=str(path)
        ) from None


def write_record(path: Path, record: Record) -> bytes:
    """Write a record atomically and return the bytes written."""
    data = encode_record(record)
    write_atomic(path, data)
    return data


def read_record(path: Path, kind: type[R]) -> R:
    """Read a record.

    Raises
    ------
    NotStored
        Where there is no such file.
    ArtifactCorrupt
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotStored(f"There is no {path.name} in {path.parent}.") from None
    return decode_record(data, kind, path)


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file whose digest is known: what is returned is what was checked.

    Raises
    ------
    ArtifactCorrupt
        Where the file is gone or its bytes differ from the digest.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactCorrupt(f"{path.name} is gone from {path.parent}.", path=str(path)) from None
    if sha256_bytes(data) != sha256:
        raise ArtifactCorrupt(f"The bytes of {path.name} differ from its digest.", path=str(path))
    return data


@contextmanager
def staged_file(final: Path) -> Iterator[Path]:
    """A private file beside `final` that replaces it when the block ends well.

    For what is written piece by piece; `write_atomic` is for bytes at hand.
    """
    make_directory(final.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)
    staged = Path(name)
    try:
        os.fchmod(descriptor, FILE_MODE)
        yield staged
        os.fsync(descriptor)
        os.replace(staged, final)
    finally:
        os.close(descriptor)
        staged.unlink(missing_ok=True)
    sync_directory(final.parent)


@contextmanager
def staged_directory(final: Path) -> Iterator[Path]:
    """A private directory beside `final` that becomes `final` when the block ends well.

    The caller must know that `final` does not exist; where another process was faster the
    rename fails and its result stands.
    """
    make_directory(final.parent)
    staged = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        yield staged
        publish_directory(staged, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def publish_directory(staged: Path, final: Path) -> None:
    """Make every file of a staged directory durable, then rename it to its final name."""
    for entry in sorted(staged.rglob("*")):
        if entry.is_dir():
            entry.chmod(DIRECTORY_MODE)
            sync_directory(entry)
        else:
            entry.chmod(FILE_MODE)
            with entry.open("rb") as stream:
                os.fsync(stream.fileno())
    staged.chmod(DIRECTORY_MODE)
    sync_directory(staged)
    os.rename(staged, final)
    sync_directory(final.parent)


@contextmanager
def locked(path: Path, timeout: float = 30.0) -> Iterator[None]:
    """Hold the lock file `path`.

    Raises
    ------
    TransientError
        Where another process holds it for longer than `timeout` seconds.
    """
    make_directory(path.parent)
    try:
        with FileLock(path, timeout=timeout, mode=FILE_MODE):
            yield
    except Timeout:
        raise TransientError(
            f"Another process has held {path.name} for {timeout:g} s.", "Try again."
        ) from None
