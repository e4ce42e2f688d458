"""Files one after the other in a sealed stream, and a manifest that closes it.

An entry is ``length of the name (2) | name | parts | 0 (4)``, a part is ``length (4) | bytes``:
the size need not be known before, as files grow while they are read. An empty name ends the
entries; ``length (8) | manifest (JSON)`` follows, and nothing after it. Names are relative
POSIX paths below ``home/`` or ``records/``; there are regular files and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.backup.stream import OpeningStream, SealingStream
from bc_pipeline.errors import BackupInvalid

ROOTS = ("home", "records")
PART_BYTES = 1 << 18
_NAME_LIMIT = 4096
_MANIFEST_LIMIT = 1 << 28
Sink = Callable[[bytes], object]
# Gives, for the name of an entry, what takes its bytes.
Receiver = Callable[[str], AbstractContextManager[Sink]]


class Entry(Record, frozen=True):
    """One file.

    Attributes
    ----------
    mode : int
        Permission bits.
    modified : int
        Nanoseconds since 1970: a landed file arrived when it was last modified.
    """

    name: str
    size: int
    sha256: str
    mode: int
    modified: int


class Manifest(Record, frozen=True, kw_only=True):
    """What a backup holds.

    Attributes
    ----------
    created_at : str
        ISO 8601, UTC: when it was begun.
    with_keys : bool
        Whether the volume's folder of keys is in it.
    verify_key : str
        Public key of the versions' signatures, PEM; empty where there was none.
    generations : dict of str to int
        Of each problem's registry.
    databases : dict of str to str
        Name of the entry of each database, and what it was read from.
    left_out : tuple of str
        What a person might look for in vain, and why.
    """

    package_version: str
    store_format: int
    created_at: str
    with_keys: bool
    verify_key: str
    generations: dict[str, int]
    databases: dict[str, str]
    left_out: tuple[str, ...]
    entries: tuple[Entry, ...]


class ArchiveWriter:
    """Adds files to a stream."""

    def __init__(self, stream: SealingStream) -> None:
        self._stream = stream
        self.entries: list[Entry] = []
        self.bytes = 0

    def add(self, name: str, path: Path) -> None:
        """Add a regular file as long as it is now; what is appended meanwhile is not taken.

        Raises
        ------
        FileNotFoundError
            Where it has gone, or is no regular file any more; nothing was added.
        """
        with _regular(path) as stream:
            found = os.fstat(stream.fileno())
            encoded = name.encode()
            self._stream.write(len(encoded).to_bytes(2, "big") + encoded)
            digest, left = hashlib.sha256(), found.st_size
            while left and (part := stream.read(min(left, PART_BYTES))):
                self._stream.write(len(part).to_bytes(4, "big") + part)
                digest.update(part)
                left -= len(part)
        self._stream.write(bytes(4))
        size = found.st_size - left
        mode = stat.S_IMODE(found.st_mode)
        self.entries.append(Entry(name, size, digest.hexdigest(), mode, found.st_mtime_ns))
        self.bytes += size

    def finish(self, manifest: Manifest) -> None:
        data = msgspec.json.encode(manifest)
        self._stream.write(bytes(2) + len(data).to_bytes(8, "big") + data)
        self._stream.finish()


def _regular(path: Path) -> io.FileIO:
    """Open a file that is no link, no pipe and no folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return io.FileIO(descriptor)


def read_archive(stream: OpeningStream, receive: Receiver) -> Manifest:
    """Go through a backup, and hold every file against the manifest.

    Raises
    ------
    BackupInvalid
    """
    read: list[tuple[str, int, str]] = []
    files: set[str] = set()
    folders: set[str] = set()
    for name in _names(stream):
        _require_safe(name, files, folders)
        size, digest = 0, hashlib.sha256()
        with receive(name) as take:
            while length := int.from_bytes(stream.read(4), "big"):
                if length > PART_BYTES:
                    raise BackupInvalid(f"A part of {name} is larger than parts are.")
                part = stream.read(length)
                take(part)
                digest.update(part)
                size += length
        read.append((name, size, digest.hexdigest()))
    manifest = _manifest(stream)
    if [(e.name, e.size, e.sha256) for e in manifest.entries] != read:
        raise BackupInvalid("The files of the backup are not those that its manifest lists.")
    return manifest


def _names(stream: OpeningStream) -> Iterator[str]:
    while length := int.from_bytes(stream.read(2), "big"):
        if length > _NAME_LIMIT:
            raise BackupInvalid("The name of an entry is longer than names are.")
        try:
            yield stream.read(length).decode()
        except UnicodeDecodeError:
            raise BackupInvalid("The name of an entry is no text.") from None


def _require_safe(name: str, files: set[str], folders: set[str]) -> None:
    """Refuse a name that is no plain path below the roots, or that stands in another's way."""
    path = PurePosixPath(name)
    above = {parent.as_posix() for parent in path.parents}
    plain = (
        path.as_posix() == name
        and len(path.parts) > 1
        and path.parts[0] in ROOTS
        and not any(part.startswith(".") for part in path.parts)
        and "\0" not in name
    )
    if not plain or name in files or name in folders or above & files:
        raise BackupInvalid(f"The backup names a file that cannot be put in place: {name!r}.")
    files.add(name)
    folders |= above


def _manifest(stream: OpeningStream) -> Manifest:
    length = int.from_bytes(stream.read(8), "big")
    if length > _MANIFEST_LIMIT:
        raise BackupInvalid("The manifest of the backup is larger than manifests are.")
    try:
        manifest = msgspec.json.decode(stream.read(length), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupInvalid("The manifest of the backup is damaged.") from None
    stream.require_end()
    return manifest
