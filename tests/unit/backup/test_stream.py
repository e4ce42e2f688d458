"""The encrypted stream: what was not written by a whole writer with the key does not open."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bc_pipeline.backup.keys import BackupKeys
from bc_pipeline.backup.stream import CHUNK_BYTES, MAGIC, OpeningStream, SealingStream
from bc_pipeline.errors import BackupInvalid, ConfigError, DecryptionFailed
from bc_pipeline.settings import Settings

KEYS = BackupKeys((bytes(range(32)),))
SEALED = CHUNK_BYTES + 16


def sealed(data: bytes, keys: BackupKeys = KEYS) -> bytes:
    sink = io.BytesIO()
    stream = SealingStream(sink, keys)
    for start in range(0, len(data), 300_000):
        stream.write(data[start : start + 300_000])
    stream.finish()
    return sink.getvalue()


def opened(box: bytes, size: int, keys: BackupKeys = KEYS) -> bytes:
    stream = OpeningStream(io.BytesIO(box), keys, "a backup")
    data = stream.read(size)
    stream.require_end()
    return data


def head_of(box: bytes) -> int:
    return len(MAGIC) + 4 + int.from_bytes(box[8:12], "big")


@pytest.mark.parametrize(
    "size",
    [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7],
)
def test_what_was_sealed_opens(size: int) -> None:
    data = os.urandom(size)
    box = sealed(data)
    assert opened(box, size) == data
    assert data[:64] not in box or size < 64
    chunks = max(1, -(-size // CHUNK_BYTES))
    assert len(box) == head_of(box) + size + 16 * chunks


def test_two_streams_of_the_same_bytes_share_nothing() -> None:
    first, second = sealed(b"a" * 1000), sealed(b"a" * 1000)
    assert first[head_of(first) :][:64] != second[head_of(second) :][:64]


# Three chunks, sealed once: the last is short.
DATA = os.urandom(2 * CHUNK_BYTES + 1000)
BOX = sealed(DATA)
HEAD = head_of(BOX)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(BOX) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_found(place: int, bit: int) -> None:
    changed = bytearray(BOX)
    changed[place] ^= 1 << bit
    with pytest.raises((BackupInvalid, DecryptionFailed)):
        opened(bytes(changed), len(DATA))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(BOX) - 1))
def test_any_cut_is_found(length: int) -> None:
    with pytest.raises(BackupInvalid):
        opened(BOX[:length], len(DATA))


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_cut_between_chunks_is_found(chunks: int) -> None:
    with pytest.raises(BackupInvalid):
        opened(BOX[: HEAD + chunks * SEALED], chunks * CHUNK_BYTES)


def test_chunks_that_were_moved_repeated_dropped_or_added_are_found() -> None:
    head, first, second, last = (
        BOX[:HEAD],
        BOX[HEAD : HEAD + SEALED],
        BOX[HEAD + SEALED : HEAD + 2 * SEALED],
        BOX[HEAD + 2 * SEALED :],
    )
    assert opened(head + first + second + last, len(DATA)) == DATA
    for order in (
        (second, first, last),
        (first, first, last),
        (first, last),
        (second, last),
        (first, second, second, last),
        (first, second, last, last),
        (first, second, last, b"\0"),
        (last,),
    ):
        with pytest.raises(BackupInvalid):
            opened(head + b"".join(order), len(DATA))


def test_chunks_of_another_file_with_the_same_key_do_not_fit() -> None:
    other = sealed(DATA)
    with pytest.raises(BackupInvalid):
        opened(BOX[:HEAD] + other[HEAD:], len(DATA))


def test_nothing_is_read_beyond_the_end_or_left_unread() -> None:
    with pytest.raises(BackupInvalid, match="ends in the midst"):
        opened(sealed(b"abc"), 4)
    with pytest.raises(BackupInvalid, match="something follows"):
        opened(sealed(b"abc"), 2)


def test_a_stream_that_was_not_finished_does_not_open() -> None:
    sink = io.BytesIO()
    SealingStream(sink, KEYS).write(DATA)
    with pytest.raises(BackupInvalid):
        opened(sink.getvalue(), len(DATA))


def test_another_key_is_told_by_its_id() -> None:
    with pytest.raises(DecryptionFailed) as caught:
        opened(BOX, len(DATA), BackupKeys((bytes(32),)))
    assert len(caught.value.key_id) == 16
    assert caught.value.key_id in str(caught.value)


def test_a_former_key_still_opens() -> None:
    former = KEYS.keys[0]
    assert opened(BOX, len(DATA), BackupKeys((bytes(32), former))) == DATA


def test_a_passphrase_opens_what_it_sealed() -> None:
    words = BackupKeys(passphrase=b"six random words make a passphrase")
    box = sealed(b"content", words)
    assert opened(box, 7, words) == b"content"
    with pytest.raises(BackupInvalid, match="passphrase is another"):
        opened(box, 7, BackupKeys(passphrase=b"another passphrase altogether"))
    with pytest.raises(DecryptionFailed, match="BC_BACKUP_PASSPHRASE_FILE"):
        opened(box, 7, KEYS)


@pytest.mark.parametrize(
    "box",
    [
        b"",
        b"BCBACKU",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        MAGIC + (5000).to_bytes(4, "big") + bytes(6000),
        MAGIC + (2).to_bytes(4, "big") + b"{}",
        MAGIC + (2).to_bytes(4, "big") + b"\xff\xff",
        MAGIC + (40).to_bytes(4, "big") + b'{"format":1,"kind":"key","key_id":"\xff"}',
    ],
)
def test_what_is_no_backup_is_refused(box: bytes) -> None:
    with pytest.raises(BackupInvalid):
        opened(box, 0)


def test_a_later_format_is_refused_in_plain_words() -> None:
    header = b'{"format":2,"kind":"moon"}'
    with pytest.raises(BackupInvalid, match="format 2"):
        opened(MAGIC + len(header).to_bytes(4, "big") + header, 0)


def test_secrets_come_from_files_that_hold_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key"):
        BackupKeys.of(Settings())
    short = tmp_path / "short"
    short.write_text("too short\n")
    for wrong in (
        Settings(backup_key_file=short),
        Settings(backup_passphrase_file=short),
        Settings(backup_passphrase_file=tmp_path / "none"),
    ):
        with pytest.raises(ConfigError) as caught:
            BackupKeys.of(wrong)
        assert caught.value.setting.startswith("BC_BACKUP_")
        assert "too short" not in str(caught.value)
    words = tmp_path / "words"
    words.write_text("six random words make a passphrase\n")
    found = BackupKeys.of(Settings(backup_passphrase_file=words))
    assert found.passphrase == b"six random words make a passphrase"
    assert "random" not in repr(found)
