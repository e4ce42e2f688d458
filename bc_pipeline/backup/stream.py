"""An authenticated, encrypted stream of bytes, in chunks, so that memory stays bounded.

A file is ``magic (8) | length of the header (4) | header (JSON) | chunks``. A chunk is up to
1 MiB, sealed with AES-256-GCM under a key of this file alone: HKDF-SHA256 over the key at hand,
the file's random salt, and the header. The nonce counts the chunks and marks the last one, so
that a chunk that was changed, dropped, repeated, moved or added, and a file that was cut short,
do not open. This is the STREAM construction; its prefix is left out, as no key serves twice.

References
----------
V. T. Hoang, R. Reyhanitabar, P. Rogaway, D. Vizar: Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance, CRYPTO 2015.
"""

from __future__ import annotations

import os
from typing import BinaryIO, Literal

import msgspec

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.backup.keys import BackupKeys
from bc_pipeline.errors import BackupInvalid

FORMAT = 1
MAGIC = b"BCBACKUP"
CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_SALT_BYTES = 32
_COUNTER_BYTES = 11
_HEADER_LIMIT = 4096
_LENGTH = 4


class Header(Record, frozen=True, kw_only=True):
    """What stands in the clear in front of the chunks; changing it makes them unreadable.

    Attributes
    ----------
    kind : {"key", "passphrase"}
        What the stream's key is derived from.
    key_id : str
        Names the key; empty for a passphrase.
    salt : str
        Hexadecimal; other for every file.
    """

    format: int = FORMAT
    kind: Literal["key", "passphrase"]
    key_id: str
    salt: str


class SealingStream:
    """Takes bytes and writes them sealed; without `finish`, what was written never opens."""

    def __init__(self, stream: BinaryIO, keys: BackupKeys) -> None:
        kind, key_id = keys.sealing()
        salt = os.urandom(_SALT_BYTES)
        header = msgspec.json.encode(Header(kind=kind, key_id=key_id, salt=salt.hex()))
        self._chunks = _Chunks(keys.secret(kind, key_id, salt), salt, header)
        self._stream = stream
        self._buffer = bytearray()
        stream.write(MAGIC + len(header).to_bytes(_LENGTH, "big") + header)

    def write(self, data: bytes) -> None:
        self._buffer += data
        # A full chunk waits: only what comes after it shows that it is not the last.
        while len(self._buffer) > CHUNK_BYTES:
            self._write(bytes(self._buffer[:CHUNK_BYTES]), last=False)
            del self._buffer[:CHUNK_BYTES]

    def finish(self) -> None:
        """Seal the last chunk, as such."""
        self._write(bytes(self._buffer), last=True)
        self._buffer.clear()

    def _write(self, data: bytes, *, last: bool) -> None:
        self._stream.write(self._chunks.seal(data, last=last))


class OpeningStream:
    """Reads what a `SealingStream` wrote; nothing is given out that was not authenticated.

    Raises
    ------
    BackupInvalid
        Also when reading: where the bytes were changed or cut short.
    DecryptionFailed
        Where the key at hand is not the one.
    ConfigError
        Where no key is set.
    """

    def __init__(self, stream: BinaryIO, keys: BackupKeys, name: str) -> None:
        self._stream = stream
        self._name = name
        header, raw = self._read_header()
        try:
            salt = bytes.fromhex(header.salt)
        except ValueError:
            raise self._invalid("its header is damaged") from None
        self._chunks = _Chunks(keys.secret(header.kind, header.key_id, salt), salt, raw)
        self._ahead = stream.read(CHUNK_BYTES + _TAG_BYTES)
        self._buffer = memoryview(b"")
        self._ended = False

    def read(self, size: int) -> bytes:
        """Exactly so many bytes.

        Raises
        ------
        BackupInvalid
            Where the stream ends before.
        """
        parts = []
        while size:
            if not self._buffer:
                if self._ended:
                    raise self._invalid("it ends in the midst of an entry")
                self._next()
                continue
            part = self._buffer[:size]
            self._buffer = self._buffer[len(part) :]
            size -= len(part)
            parts.append(bytes(part))
        return b"".join(parts)

    def require_end(self) -> None:
        """See that nothing follows.

        Raises
        ------
        BackupInvalid
        """
        while not self._buffer and not self._ended:
            self._next()
        if self._buffer:
            raise self._invalid("something follows its end")

    def _next(self) -> None:
        sealed, self._ahead = self._ahead, self._stream.read(CHUNK_BYTES + _TAG_BYTES)
        self._ended = not self._ahead
        opened = self._chunks.open(sealed, last=self._ended)
        if opened is None:
            raise self._invalid(
                "it was changed or cut short, or the passphrase is another"
                if self._chunks.count == 0
                else "it was changed or cut short"
            )
        self._buffer = memoryview(opened)

    def _read_header(self) -> tuple[Header, bytes]:
        if self._stream.read(len(MAGIC)) != MAGIC:
            raise self._invalid("it does not begin like one")
        length = int.from_bytes(self._stream.read(_LENGTH), "big")
        raw = self._stream.read(length) if length <= _HEADER_LIMIT else b""
        try:
            found = msgspec.json.decode(raw, type=_Format).format
            if found > FORMAT:
                raise self._invalid(
                    f"it has format {found}, and this release reads up to format {FORMAT}"
                )
            return msgspec.json.decode(raw, type=Header), raw
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._invalid("its header is damaged") from None

    def _invalid(self, why: str) -> BackupInvalid:
        return BackupInvalid(
            f"{self._name} is no whole backup: {why}.", "Take another backup.", path=self._name
        )


class _Format(msgspec.Struct):
    format: int


class _Chunks:
    """Seals or opens chunks, one after the other."""

    def __init__(self, secret: bytes, salt: bytes, header: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        key = HKDF(SHA256(), 32, salt, b"bc_pipeline backup\0" + header).derive(secret)
        self._cipher = AESGCM(key)
        self.count = 0

    def seal(self, data: bytes, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(self._nonce(last), data, None)
        self.count += 1
        return sealed

    def open(self, sealed: bytes, *, last: bool) -> bytes | None:
        """None where it is not the chunk that was sealed at this place."""
        from cryptography.exceptions import InvalidTag

        try:
            opened = self._cipher.decrypt(self._nonce(last), sealed, None)
        except (InvalidTag, ValueError):
            return None
        self.count += 1
        return opened

    def _nonce(self, last: bool) -> bytes:
        return self.count.to_bytes(_COUNTER_BYTES, "big") + bytes([last])
