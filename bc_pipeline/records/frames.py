"""The bytes of the prediction log: segments of frames, each with its length and checksum.

A segment is ``MAGIC`` and frames; a frame is length and CRC-32 of its payload, both
little-endian 32 bit, and the payload in MessagePack: an `Entry`, or a `Sealed` where
features are encrypted.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TypeAlias
from zlib import crc32

import msgspec

from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import DecryptionFailed
from bc_pipeline.records.entry import Entry

MAGIC = b"BCREC001"
HEAD = struct.Struct("<II")
# More than any record has; a length above it is damage.
MAX_PAYLOAD = 1 << 20
_MAX_FRAME = HEAD.size + MAX_PAYLOAD
# Where the text of the id begins in a frame.
ID_AT = HEAD.size + 3
# An array of 10 or 11, whose first item is a text of 36 bytes. No text within a payload can
# hold it, as it is not UTF-8: after damage, it is where the next frame may begin.
_START = re.compile(rb"[\x9a\x9b]\xd9\x24")


class Sealed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `Entry` whose values and sample id are encrypted, bound to its id."""

    id: str
    at: float
    version: str
    manifest_sha256: str
    probability: float
    positive: bool
    latency: float
    caller: str
    route: str
    box: bytes


class _Private(msgspec.Struct, frozen=True, array_like=True, gc=False):
    values: bytes
    sample_id: str | None


Logged: TypeAlias = Entry | Sealed

_pack = HEAD.pack
_encode = msgspec.msgpack.Encoder().encode
_entry = msgspec.msgpack.Decoder(Entry)
_sealed = msgspec.msgpack.Decoder(Sealed)
_private = msgspec.msgpack.Decoder(_Private)


def frame(entry: Logged) -> bytes:
    """Bytes of one frame."""
    payload = _encode(entry)
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise ValueError("a record is larger than the log takes")
    return _pack(size, crc32(payload)) + payload


def seal(entry: Entry, cipher: Cipher) -> Sealed:
    """Encrypt what may tell of a patient."""
    private = _encode(_Private(entry.values, entry.sample_id))
    return Sealed(
        entry.id,
        entry.at,
        entry.version,
        entry.manifest_sha256,
        entry.probability,
        entry.positive,
        entry.latency,
        entry.caller,
        entry.route,
        cipher.seal(private, entry.id.encode()),
    )


def unseal(box: bytes, prediction_id: str, cipher: Cipher | None) -> tuple[bytes, str | None]:
    """Values and sample id out of a box.

    Raises
    ------
    DecryptionFailed
    """
    if cipher is None:
        raise DecryptionFailed(
            "The features of this record are encrypted.",
            "Name the key's file in BC_RECORDS_KEY_FILE.",
        )
    private = _private.decode(cipher.open(box, prediction_id.encode()))
    return private.values, private.sample_id


class Found(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a segment: a frame, or damaged bytes (``logged`` is None).

    Attributes
    ----------
    start, end : int
        Offsets within the bytes that were read.
    """

    start: int
    end: int
    logged: Logged | None


def read_frames(data: bytes, *, closed: bool) -> Iterator[Found]:
    """Go through the frames of bytes that begin where a frame begins.

    Parameters
    ----------
    closed : bool
        Nothing more will be written after these bytes. Then an unfinished frame at the end is
        what a killed process left of a write that it had not answered for; otherwise the rest
        of it is still to come, and the walk ends before it.
    """
    offset = 0
    while offset < len(data):
        end = frame_end(data, offset)
        if len(data) < end <= offset + _MAX_FRAME and not closed:
            return
        logged = decode(data, offset, end)
        if logged is not None:
            yield Found(offset, end, logged)
            offset = end
            continue
        restart = next_frame(data, offset + 1)
        if restart is None:
            if not closed:
                # A whole frame may yet begin in the last stretch.
                restart = len(data) - _MAX_FRAME
            elif _unfinished(data, offset):
                return
            else:
                restart = len(data)
        if restart <= offset:
            return
        yield Found(offset, restart, None)
        offset = restart


def frame_end(data: bytes, offset: int) -> int:
    """Where the frame at an offset ends; past the data where it is not all there."""
    if offset + HEAD.size > len(data):
        return offset + HEAD.size
    return offset + HEAD.size + int.from_bytes(data[offset : offset + 4], "little")


def decode(data: bytes, offset: int, end: int) -> Logged | None:
    """The frame from `offset` to `end`; None where it is no whole, undamaged frame."""
    start = offset + HEAD.size
    if end > len(data) or not 0 < end - start <= MAX_PAYLOAD:
        return None
    payload = data[start:end]
    if crc32(payload) != HEAD.unpack_from(data, offset)[1]:
        return None
    try:
        return _sealed.decode(payload) if payload[0] == 0x9A else _entry.decode(payload)
    except msgspec.MsgspecError:
        return None


def next_frame(data: bytes, offset: int) -> int | None:
    """Offset of the first whole frame from `offset` on."""
    for match in _START.finditer(data, offset + HEAD.size):
        start = match.start() - HEAD.size
        if decode(data, start, frame_end(data, start)) is not None:
            return start
    return None


def _unfinished(data: bytes, offset: int) -> bool:
    """Whether the rest looks like the beginning of a frame that was never finished."""
    rest = data[offset:]
    if len(rest) <= HEAD.size:
        return True
    begins = (rest[HEAD.size :] + b"\xd9\x24")[:3]
    return frame_end(rest, 0) > len(rest) and _START.match(begins) is not None
