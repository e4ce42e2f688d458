"""The archive in a backup: a tar file of regular files, and a manifest as its last entry.

Names are relative POSIX paths below ``home/`` or ``records/``. GNU tar's format is used: it needs
an extension for long names alone, so that a reader may refuse every other type of entry.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

import msgspec

from bc_pipeline.artifacts.document import Document
from bc_pipeline.errors import BackupInvalid, TransientError

ROOTS = ("home", "records")
MANIFEST = "manifest.json"
_PART_BYTES = 1 << 18
_BLOCK_BYTES = 1 << 16
_NAME_LIMIT = 4096
_MANIFEST_LIMIT = 1 << 28
Write = Callable[[bytes], object]
# Opens, for the name of an entry, a function that receives its bytes.
Receiver = Callable[[str], AbstractContextManager[Write]]


class ArchiveEntry(Document, frozen=True):
    """One file.

    Attributes
    ----------
    mode : int
        Permission bits.
    modified : int
        Nanoseconds since 1970: the modification time of a landed file is its arrival time.
    """

    name: str
    size: int
    sha256: str
    mode: int
    modified: int


class BackupManifest(Document, frozen=True, kw_only=True):
    """Contents and origin of a backup.

    Attributes
    ----------
    created_at : str
        ISO 8601, UTC: when the backup was started.
    with_keys : bool
        Whether the volume's folder of keys is included.
    verify_key : str
        Public key of the versions' signatures, PEM; empty where there was none.
    generations : dict of str to int
        Generation of each problem's registry.
    databases : dict of str to str
        Entry name of each database, and what it was read from.
    left_out : tuple of str
        Files that are not included although a reader may expect them, and why.
    """

    package_version: str
    store_format: int
    created_at: str
    with_keys: bool
    verify_key: str
    generations: dict[str, int]
    databases: dict[str, str]
    left_out: tuple[str, ...]
    entries: tuple[ArchiveEntry, ...]


class ArchiveWriter:
    """Adds files to an archive; see `writing_archive`."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.entries: list[ArchiveEntry] = []
        self.bytes = 0

    def add(self, name: str, path: Path) -> None:
        """Add a regular file with its current length; bytes appended later are left out.

        Raises
        ------
        FileNotFoundError
            Where it was removed, or is not a regular file any more; nothing was added.
        TransientError
            Where it was shortened meanwhile.
        """
        name.encode()
        with _open_regular(path) as stream:
            status = os.fstat(stream.fileno())
            mode = stat.S_IMODE(status.st_mode)
            content = _DigestReader(stream, name)
            modified = status.st_mtime_ns
            self._append(name, content, status.st_size, mode, modified // 10**9)
        self.entries.append(
            ArchiveEntry(name, status.st_size, content.sha256.hexdigest(), mode, modified)
        )
        self.bytes += status.st_size

    def finish(self, manifest: BackupManifest) -> None:
        """Add the manifest, which completes the archive."""
        data = msgspec.json.encode(manifest)
        self._append(MANIFEST, io.BytesIO(data), len(data), 0o600, 0)

    def _append(
        self, name: str, content: _DigestReader | io.BytesIO, size: int, mode: int, modified: int
    ) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, mode, modified
        self._tar.addfile(member, content)
        # tarfile collects members for lookups, which a stream does not need; its stubs omit them.
        self._tar.members.clear()  # type: ignore[attr-defined]


@contextmanager
def writing_archive(stream: BinaryIO) -> Iterator[ArchiveWriter]:
    """Write an archive to a stream; it is complete where `ArchiveWriter.finish` was called."""
    with tarfile.open(
        fileobj=stream,
        mode="w|",
        bufsize=_BLOCK_BYTES,
        format=tarfile.GNU_FORMAT,
        encoding="utf-8",
    ) as tar:
        yield ArchiveWriter(tar)


class _DigestReader:
    """Computes the digest of what is read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise TransientError(
                f"{self._name} was shortened while it was copied.", "Run the backup again."
            )
        self.sha256.update(data)
        return data


def _open_regular(path: Path) -> BinaryIO:
    """Open a file, but no link, pipe or folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return open(descriptor, "rb")


class _StrictTarInfo(tarfile.TarInfo):
    """Refuses every header that `ArchiveWriter` does not write, before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictTarInfo:
        member = super().frombuf(buf, encoding, errors)
        long_name = member.type == tarfile.GNUTYPE_LONGNAME and member.size <= _NAME_LIMIT + 1
        if member.size < 0 or not (member.type == tarfile.REGTYPE or long_name):
            raise BackupInvalid(f"The backup has an entry that is not a file: {member.name!r}.")
        return member


def read_archive(stream: BinaryIO, receive: Receiver) -> BackupManifest:
    """Read an archive to its end, and compare every file with the manifest.

    Parameters
    ----------
    receive : callable
        Gets the bytes of every file. They are compared with the manifest only at the end.

    Raises
    ------
    BackupInvalid
    """
    try:
        with tarfile.open(
            fileobj=stream,
            mode="r|",
            bufsize=_BLOCK_BYTES,
            tarinfo=_StrictTarInfo,
            encoding="utf-8",
            errors="strict",
        ) as tar:
            return _read_members(tar, receive)
    except (tarfile.TarError, UnicodeDecodeError, RecursionError) as error:
        raise BackupInvalid(f"The archive in the backup is damaged: {error}.") from None


def _read_members(tar: tarfile.TarFile, receive: Receiver) -> BackupManifest:
    read: list[tuple[str, int, str]] = []
    files: set[str] = set()
    folders: set[str] = set()
    while (member := tar.next()) is not None:
        # As in `ArchiveWriter._append`.
        tar.members.clear()  # type: ignore[attr-defined]
        content = tar.extractfile(member)
        assert content is not None  # only regular files pass `_StrictTarInfo`
        if member.name == MANIFEST:
            manifest = _read_manifest(content, member.size)
            _require_end(tar)
            if [(e.name, e.size, e.sha256) for e in manifest.entries] != read:
                raise BackupInvalid("The files of the backup are not those in its manifest.")
            return manifest
        _require_safe(member.name, files, folders)
        sha256 = hashlib.sha256()
        with receive(member.name) as write:
            while part := content.read(_PART_BYTES):
                write(part)
                sha256.update(part)
        read.append((member.name, member.size, sha256.hexdigest()))
    raise BackupInvalid("The backup has no manifest.")


def _read_manifest(content: IO[bytes], size: int) -> BackupManifest:
    if size > _MANIFEST_LIMIT:
        raise BackupInvalid("The manifest of the backup is too large.")
    try:
        return msgspec.json.decode(content.read(), type=BackupManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupInvalid("The manifest of the backup is damaged.") from None


def _require_end(tar: tarfile.TarFile) -> None:
    """Read the padding that ends a tar file; without that, the last chunk is not authenticated."""
    assert tar.fileobj is not None
    while part := tar.fileobj.read(_PART_BYTES):
        if part.strip(b"\0"):
            raise BackupInvalid("The backup has data after its manifest.")


def _require_safe(name: str, files: set[str], folders: set[str]) -> None:
    """Refuse a name that is not a plain path below the roots, or conflicts with another name."""
    path = PurePosixPath(name)
    parents = {parent.as_posix() for parent in path.parents}
    plain = (
        path.as_posix() == name
        and len(path.parts) > 1
        and path.parts[0] in ROOTS
        and not any(part.startswith(".") for part in path.parts)
    )
    if not plain or name in files or name in folders or parents & files:
        raise BackupInvalid(f"The backup names a file that cannot be restored: {name!r}.")
    files.add(name)
    folders |= parents
