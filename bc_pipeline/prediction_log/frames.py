"""The binary format of the prediction log: segments of frames with length and checksum.

A segment is ``MAGIC`` followed by frames. A frame is the length and the CRC-32 of its
payload, both little-endian 32 bit, and the payload in MessagePack: a `LogEntry`, or an
`EncryptedEntry` where features are encrypted.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TypeAlias
from zlib import crc32

import msgspec

from bc_pipeline.encryption import Cipher, load_cipher
from bc_pipeline.errors import DecryptionFailed
from bc_pipeline.prediction_log.entry import Answer, LogEntry
from bc_pipeline.settings import Settings

MAGIC = b"BCREC001"
HEAD = struct.Struct("<II")
# Larger than any entry: a greater length means damage.
MAX_PAYLOAD = 1 << 20
_MAX_FRAME = HEAD.size + MAX_PAYLOAD
# Offset of the id's text within a frame.
ID_AT = HEAD.size + 3
# The payload begins with an array of 10 or 11 items whose first is a text of 36 bytes. These
# bytes are not UTF-8, so no text in a payload contains them: after damage, the search for the
# next frame looks for them.
_START = re.compile(rb"[\x9a\x9b]\xd9\x24")


class EncryptedEntry(Answer, frozen=True):
    """A `LogEntry` whose values and sample id are encrypted, bound to its id."""

    ciphertext: bytes


AnyEntry: TypeAlias = LogEntry | EncryptedEntry

_pack = HEAD.pack
_encode = msgspec.msgpack.Encoder().encode
_entry_decoder = msgspec.msgpack.Decoder(LogEntry)
_encrypted_decoder = msgspec.msgpack.Decoder(EncryptedEntry)
_private_decoder = msgspec.msgpack.Decoder(tuple[bytes, str | None])


def encode_frame(entry: AnyEntry) -> bytes:
    """Encode an entry as a frame."""
    payload = _encode(entry)
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise ValueError("an entry is larger than a frame may be")
    return _pack(size, crc32(payload)) + payload


def records_cipher(settings: Settings) -> Cipher | None:
    """Return the cipher of logged features, where a key is configured.

    Raises
    ------
    ConfigError
    """
    key_file = settings.records_key_file
    return load_cipher(key_file, "BC_RECORDS_KEY_FILE") if key_file else None


def encrypt(entry: LogEntry, cipher: Cipher) -> EncryptedEntry:
    """Encrypt the features and the sample id."""
    *answer, values, sample_id = msgspec.structs.astuple(entry)
    ciphertext = cipher.encrypt(_encode((values, sample_id)), entry.id.encode())
    return EncryptedEntry(*(*answer, ciphertext))


def private_fields(entry: AnyEntry, cipher: Cipher | None) -> tuple[bytes, str | None]:
    """Return the values and the sample id of an entry, decrypted where they are encrypted.

    Raises
    ------
    DecryptionFailed
    """
    if isinstance(entry, LogEntry):
        return entry.values, entry.sample_id
    if cipher is None:
        raise DecryptionFailed(
            "The features of this prediction are encrypted.",
            "Set BC_RECORDS_KEY_FILE to the key's file.",
        )
    return _private_decoder.decode(cipher.decrypt(entry.ciphertext, entry.id.encode()))


def erase_payload(size: int) -> bytes:
    """A frame of `size` bytes without an entry, which readers pass over."""
    payload = bytes(size - HEAD.size)
    return _pack(len(payload), crc32(payload)) + payload


def _is_erased(data: bytes, offset: int, end: int) -> bool:
    return offset + HEAD.size < end <= len(data) and data[offset:end] == erase_payload(end - offset)


class FrameRange(msgspec.Struct, frozen=True, gc=False):
    """A range of a segment: one frame, or damaged bytes (`entry` is None).

    Attributes
    ----------
    start, end : int
        Offsets within the bytes passed to `read_frames`.
    """

    start: int
    end: int
    entry: AnyEntry | None


def read_frames(data: bytes, *, closed: bool) -> Iterator[FrameRange]:
    """Decode the frames of bytes that start at a frame boundary.

    Parameters
    ----------
    closed : bool
        Whether nothing will be appended to these bytes. Then an unfinished last frame is a
        write that a killed process did not complete, and is dropped; otherwise the rest of
        it may still come, and decoding ends before it.
    """
    offset = 0
    while offset < len(data):
        end = frame_end(data, offset)
        if len(data) < end <= offset + _MAX_FRAME and not closed:
            return
        logged = decode_frame(data, offset, end)
        if logged is not None:
            yield FrameRange(offset, end, logged)
            offset = end
            continue
        if _is_erased(data, offset, end):
            offset = end
            continue
        restart = find_next_frame(data, offset + 1)
        if restart is None:
            if not closed:
                # A frame may still begin within the last bytes.
                restart = len(data) - _MAX_FRAME
            elif _unfinished(data, offset):
                return
            else:
                restart = len(data)
        if restart <= offset:
            return
        yield FrameRange(offset, restart, None)
        offset = restart


def frame_end(data: bytes, offset: int) -> int:
    """Return the end of the frame at an offset; beyond the data where it is incomplete."""
    if offset + HEAD.size > len(data):
        return offset + HEAD.size
    return offset + HEAD.size + int.from_bytes(data[offset : offset + 4], "little")


def decode_frame(data: bytes, offset: int, end: int) -> AnyEntry | None:
    """Decode the frame from `offset` to `end`; None where it is incomplete or damaged."""
    start = offset + HEAD.size
    if end > len(data) or not 0 < end - start <= MAX_PAYLOAD:
        return None
    payload = data[start:end]
    if crc32(payload) != HEAD.unpack_from(data, offset)[1]:
        return None
    try:
        return (
            _encrypted_decoder.decode(payload)
            if payload[0] == 0x9A
            else _entry_decoder.decode(payload)
        )
    except msgspec.MsgspecError:
        return None


def find_next_frame(data: bytes, offset: int) -> int | None:
    """Return the offset of the first whole frame at or after `offset`."""
    for match in _START.finditer(data, offset + HEAD.size):
        start = match.start() - HEAD.size
        if decode_frame(data, start, frame_end(data, start)) is not None:
            return start
    return None


def _unfinished(data: bytes, offset: int) -> bool:
    """Return whether the rest is the beginning of a frame that was not completed."""
    rest = data[offset:]
    if len(rest) <= HEAD.size:
        return True
    begins = (rest[HEAD.size :] + b"\xd9\x24")[:3]
    return frame_end(rest, 0) > len(rest) and _START.match(begins) is not None
