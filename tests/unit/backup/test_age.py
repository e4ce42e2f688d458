"""Encryption: only a complete file decrypts, and only with an identity of its recipients."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrage.x25519 import Identity

from bc_pipeline.backup import age
from bc_pipeline.backup.age import (
    MAGIC,
    Identities,
    decrypting,
    encrypting,
    load_identities,
    load_recipients,
    require_age,
)
from bc_pipeline.errors import BackupInvalid, ConfigError, DecryptionFailed
from bc_pipeline.settings import Settings
from tests.unit.backup.age_keys import make_key
from tests.waiting import PATIENCE

CHUNK_BYTES = 1 << 16
TAG_BYTES = 16
KEY = Identity.generate()
OTHER = Identity.generate()
# Made by age-keygen, and encrypted in the format of `age -p -a` with the passphrase below. The work
# factor is low: a busy machine refuses that of age itself.
PROTECTED = Path(__file__).with_name("identity.age")
PASSPHRASE = "six random words make a passphrase"
RECIPIENT = "age1fnwh2jyq4hjq2kd8qlgrsxqwypxsm2wvym0lnk7pfvq4gelsvqfsxxydmc"


def encrypted(data: bytes, *identities: Identity) -> bytes:
    target = io.BytesIO()
    recipients = [identity.to_public() for identity in identities or (KEY,)]
    with encrypting(target, recipients) as sink:
        for start in range(0, len(data), 300_000):
            sink.write(data[start : start + 300_000])
    return target.getvalue()


def decrypted(file: bytes, identities: Identities = (KEY,)) -> bytes:
    require_age(file, "a backup")
    with decrypting(io.BytesIO(file), identities, "a backup") as plain:
        return plain.read()


def header_length(file: bytes) -> int:
    """Without the nonce that follows it."""
    return file.index(b"\n", file.index(b"\n--- ") + 1) + 1


@pytest.mark.parametrize(
    "size",
    [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 20 * CHUNK_BYTES + 7],
)
def test_encrypted_bytes_are_decrypted(size: int) -> None:
    data = os.urandom(size)
    file = encrypted(data)
    assert decrypted(file) == data
    assert data[:64] not in file or size < 64


@pytest.mark.parametrize("direction", ["encrypting", "decrypting"])
def test_an_exit_while_the_thread_starts_does_not_wait_forever(
    direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            super().submit(*arguments, **named)
            raise SystemExit(143)

    file = encrypted(os.urandom(20 * CHUNK_BYTES))
    monkeypatch.setattr(age, "ThreadPoolExecutor", Interrupted)
    codes: list[object] = []

    def run() -> None:
        try:
            encrypted(b"") if direction == "encrypting" else decrypted(file)
        except SystemExit as exit_:
            codes.append(exit_.code)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert codes == [143]


def test_any_of_several_identities_decrypts_for_any_of_several_recipients() -> None:
    file = encrypted(b"content", KEY, OTHER)
    assert decrypted(file, [KEY]) == decrypted(file, [OTHER]) == b"content"
    assert decrypted(encrypted(b"content"), [OTHER, KEY]) == b"content"


def test_an_identity_of_no_recipient_is_refused() -> None:
    with pytest.raises(DecryptionFailed, match="other recipients") as caught:
        decrypted(encrypted(b"content"), [OTHER])
    assert "BC_BACKUP_KEY_FILE" in caught.value.remedy


# Three chunks, encrypted once: the last is short.
DATA = os.urandom(2 * CHUNK_BYTES + 1000)
FILE = encrypted(DATA)
HEADER = header_length(FILE) + 16
CHUNK = CHUNK_BYTES + TAG_BYTES


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_noticed(position: int, bit: int) -> None:
    changed = bytearray(FILE)
    changed[position] ^= 1 << bit
    with pytest.raises((BackupInvalid, DecryptionFailed)):
        decrypted(bytes(changed))


@given(st.integers(0, len(FILE) - 1))
def test_any_cut_is_noticed(length: int) -> None:
    with pytest.raises(BackupInvalid):
        decrypted(FILE[:length])


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_cut_between_chunks_is_noticed(chunks: int) -> None:
    with pytest.raises(BackupInvalid, match="cut short"):
        decrypted(FILE[: HEADER + chunks * CHUNK])


def test_moved_repeated_dropped_and_added_chunks_are_noticed() -> None:
    head, first, second, last = (
        FILE[:HEADER],
        FILE[HEADER : HEADER + CHUNK],
        FILE[HEADER + CHUNK : HEADER + 2 * CHUNK],
        FILE[HEADER + 2 * CHUNK :],
    )
    assert decrypted(head + first + second + last) == DATA
    for order in (
        (second, first, last),
        (first, first, last),
        (first, last),
        (first, second, last, last),
        (first, second, last, b"\0"),
        (last,),
    ):
        with pytest.raises(BackupInvalid, match="changed or cut short"):
            decrypted(head + b"".join(order))


def test_a_reader_may_stop_early() -> None:
    with decrypting(io.BytesIO(encrypted(bytes(1 << 22))), [KEY], "a backup") as plain:
        assert plain.read(10) == bytes(10)


class Full(io.BytesIO):
    """A file on a disk that is full."""

    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_as_such() -> None:
    def write() -> None:
        with encrypting(Full(), [KEY.to_public()]) as sink:
            for _ in range(100):
                sink.write(bytes(1 << 16))

    with pytest.raises(OSError, match="No space") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC


def test_a_read_error_of_the_disk_is_raised_unchanged() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > CHUNK:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with (
        pytest.raises(OSError, match="Input/output error"),
        decrypting(Broken(FILE), [KEY], "a backup") as plain,
    ):
        plain.read()


def test_an_error_in_the_block_ends_the_thread() -> None:
    def write() -> None:
        with encrypting(io.BytesIO(), [KEY.to_public()]) as sink:
            sink.write(b"part")
            raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        write()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "file",
    [
        b"",
        MAGIC[:-1],
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        MAGIC + b"-> X25519 " + b"A" * 300_000,
        MAGIC + b"\n--- x\n",
        MAGIC.replace(b"v1", b"v9") + b"-> X25519 a\n--- x\n",
    ],
)
def test_a_file_that_is_no_backup_is_refused(file: bytes) -> None:
    with pytest.raises(BackupInvalid, match="not a complete backup"):
        decrypted(file)


def test_the_former_format_is_refused_with_the_release_that_reads_it() -> None:
    with pytest.raises(BackupInvalid, match=r"release 0\.1\.0") as caught:
        decrypted(b'BCBACKUP\0\0\0\x10{"format":1}')
    assert "0.1.0" in caught.value.remedy


def test_recipients_are_checked_and_never_shown(tmp_path: Path) -> None:
    good = make_key(tmp_path / "key")
    assert [str(key) for key in load_recipients(Settings(backup_recipients=(good,)))] == [good]
    with pytest.raises(ConfigError, match="no recipient is set") as caught:
        load_recipients(Settings())
    assert caught.value.setting == "BC_BACKUP_RECIPIENTS"
    mistyped = good[:-1] + ("p" if good.endswith("q") else "q")
    for wrong in ("age1canary", str(OTHER), mistyped):
        with pytest.raises(ConfigError, match="Recipient 2") as caught:
            load_recipients(Settings(backup_recipients=(good, wrong)))
        assert wrong not in str(caught.value)


def test_recipients_are_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [make_key(tmp_path / name) for name in "ab"]
    monkeypatch.setenv("BC_BACKUP_RECIPIENTS", ", ".join(keys))
    assert [str(key) for key in load_recipients(Settings())] == keys


def test_identities_come_from_their_file(tmp_path: Path) -> None:
    key, two = tmp_path / "key", tmp_path / "two"
    make_key(key)
    two.write_text(key.read_text() + f"\n{OTHER}\n")
    (first,) = load_identities(Settings(backup_key_file=key))
    identities = load_identities(Settings(backup_key_file=two))
    assert [str(key) for key in identities] == [str(first), str(OTHER)]


@pytest.mark.parametrize(
    "content", ["", "# only a comment\n", "ab" * 32, "AGE-SECRET-KEY-1QQQ", "\u00e4"]
)
def test_a_file_without_identities_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ConfigError, match="does not hold age identities") as caught:
        load_identities(Settings(backup_key_file=path))
    assert caught.value.setting == "BC_BACKUP_KEY_FILE"
    assert not content or content not in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    for missing in (Settings(), Settings(backup_key_file=tmp_path / "none")):
        with pytest.raises(ConfigError) as caught:
            load_identities(missing)
        assert caught.value.setting == "BC_BACKUP_KEY_FILE"


@pytest.mark.slow
def test_a_passphrase_protects_the_identity_file(tmp_path: Path) -> None:
    words, binary = tmp_path / "words", tmp_path / "binary"
    words.write_text(f"{PASSPHRASE}\n")
    binary.write_bytes(b64decode("".join(PROTECTED.read_text().splitlines()[1:-1])))
    for key in (PROTECTED, binary):
        known = Settings(backup_key_file=key, backup_passphrase_file=words)
        (identity,) = load_identities(known)
        assert str(identity.to_public()) == RECIPIENT
    words.write_text("canary")
    for wrong in (
        known,
        Settings(backup_key_file=binary),
        Settings(backup_key_file=binary, backup_passphrase_file=tmp_path / "none"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_identities(wrong)
        assert caught.value.setting == "BC_BACKUP_PASSPHRASE_FILE"
        assert "canary" not in str(caught.value)


@pytest.mark.skipif(
    shutil.which("age") is None, reason="age is missing: 'apt-get install age' brings it"
)
def test_age_and_this_package_decrypt_each_other_s_files(tmp_path: Path) -> None:
    recipient = make_key(tmp_path / "key")
    identities = load_identities(Settings(backup_key_file=tmp_path / "key"))
    by_age = subprocess.run(
        ["age", "-r", recipient], input=DATA, capture_output=True, check=True
    ).stdout
    assert decrypted(by_age, identities) == DATA
    read = subprocess.run(
        ["age", "-d", "-i", tmp_path / "key"],
        input=encrypted(DATA, *identities),
        capture_output=True,
        check=True,
    ).stdout
    assert read == DATA
