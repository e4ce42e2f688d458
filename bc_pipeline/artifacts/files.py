"""Atomic writes to the volume, and reading of documents.

A crash at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from filelock import FileLock, Timeout

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.leftovers import SUFFIX, lock_entry
from bc_pipeline.errors import ArtifactCorrupt, NotStored, TransientError

FILE_MODE = 0o640
# While bytes are written: their own mode may not even let the owner write.
_WRITTEN_MODE = 0o600
DIRECTORY_MODE = 0o2775
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_PREFIX_BYTES = 232
D = TypeVar("D", bound=Document)


class _FormatNumber(msgspec.Struct):
    format: int


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_state(path: Path) -> tuple[int, ...] | None:
    """Attributes that differ after any change of a file; None if it cannot be examined."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def make_directory(path: Path) -> Path:
    """Make a directory and its parents, writable by the volume's group.

    Existing directories keep their mode. New ones get theirs by `chmod`, because with `mkdir`
    the umask decides whether the group can write.
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
    """Make renames and new files in a directory durable."""
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
        Modification time of the file, seconds since 1970.
    """
    with staged_file(path, _WRITTEN_MODE) as staged:
        staged.write_bytes(data)
        staged.chmod(mode)
        if modified is not None:
            os.utime(staged, (modified, modified))


def encode_document(document: Document) -> bytes:
    """Readable, stable JSON: two-space indent, fields in declared order."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode_document(data: bytes, kind: type[D], path: Path, known_format: int | None = None) -> D:
    """Decode a document strictly.

    Parameters
    ----------
    known_format : int, optional
        The latest format that this code reads: a later one is refused as such, before its
        unknown fields are. Earlier formats are accepted: fields that they lack have defaults.

    Raises
    ------
    ArtifactCorrupt
        Where the bytes are not a document of that kind, or are of a later format.
    """
    if known_format is not None:
        number = decode_format(data, path)
        if not 1 <= number <= known_format:
            raise ArtifactCorrupt(
                f"{path.name} has format {number}; this code reads up to format {known_format}.",
                "Use the release of bc-pipeline that wrote it, or a later one.",
                path=str(path),
            )
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactCorrupt(
            f"{path.name} is not a valid {kind.__name__.lower()}: {error}.", path=str(path)
        ) from None


def decode_format(data: bytes, path: Path) -> int:
    """Decode a document's format number alone.

    Raises
    ------
    ArtifactCorrupt
    """
    try:
        return msgspec.json.decode(data, type=_FormatNumber).format
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(
            f"{path.name} cannot be read: {error}.", "Restore it from a backup.", path=str(path)
        ) from None


def write_document(path: Path, document: Document) -> bytes:
    """Write a document atomically and return the bytes written."""
    data = encode_document(document)
    write_atomic(path, data)
    return data


def read_document(path: Path, kind: type[D]) -> D:
    """Read a document.

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
    return decode_document(data, kind, path)


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file and check its digest over the bytes that are returned.

    Raises
    ------
    ArtifactCorrupt
        Where the file is missing or its bytes differ from the digest.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactCorrupt(f"{path.name} is gone from {path.parent}.", path=str(path)) from None
    if sha256_bytes(data) != sha256:
        raise ArtifactCorrupt(f"The bytes of {path.name} differ from its digest.", path=str(path))
    return data


def _staged_prefix(final: Path) -> str:
    """Start of a temporary file's name, which may have 255 bytes with its end."""
    return f".{os.fsdecode(os.fsencode(final.name)[:_PREFIX_BYTES])}."


@contextmanager
def staged_file(final: Path, mode: int = FILE_MODE) -> Iterator[Path]:
    """Yield a temporary file beside `final` that replaces it if the block does not raise.

    For files written in pieces; `write_atomic` writes bytes.
    """
    make_directory(final.parent)
    with _staged_entry(final, folder=False) as (staged, descriptor):
        os.fchmod(descriptor, mode)
        yield staged
        os.fsync(descriptor)
        os.replace(staged, final)
    sync_directory(final.parent)


@contextmanager
def staged_directory(final: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `final`, renamed to it if the block does not raise.

    Every file is made durable before. `final` must not exist: if another process has made it
    meanwhile, the rename fails.
    """
    make_directory(final.parent)
    with _staged_entry(final, folder=True) as (staged, _):
        yield staged
        for entry in staged.rglob("*"):
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
def _staged_entry(final: Path, *, folder: bool) -> Iterator[tuple[Path, int]]:
    """Make and lock a temporary file or folder, which is removed after the block.

    Its name is chosen before: a signal may raise as soon as the entry is there, when nobody has
    the path that `tempfile` would return.
    """
    while True:
        # 56 random bits: no other entry has the name.
        staged = final.with_name(f"{_staged_prefix(final)}{secrets.token_hex(7)}{SUFFIX}")
        descriptor = None
        try:
            if folder:
                staged.mkdir(0o700)
                descriptor = os.open(staged, os.O_RDONLY | os.O_DIRECTORY)
            else:
                descriptor = os.open(staged, _NEW_FILE, _WRITTEN_MODE)
            if lock_entry(staged, descriptor):
                yield staged, descriptor
                return
        finally:
            if descriptor is not None:
                os.close(descriptor)
            if folder:
                shutil.rmtree(staged, ignore_errors=True)
            else:
                with suppress(OSError):
                    staged.unlink()


@contextmanager
def locked(path: Path, timeout: float = 30.0) -> Iterator[None]:
    """Lock the lock file `path` for the block.

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
