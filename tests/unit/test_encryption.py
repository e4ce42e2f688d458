from __future__ import annotations

from pathlib import Path

import pytest

from bc_pipeline.encryption import Cipher, is_ciphertext, load_cipher
from bc_pipeline.errors import ConfigError, DecryptionFailed

CIPHER = Cipher(bytes(range(32)))


def test_a_box_opens_in_its_place_only() -> None:
    ciphertext = CIPHER.encrypt(b"secret", b"here")
    assert CIPHER.decrypt(ciphertext, b"here") == b"secret"
    assert b"secret" not in ciphertext
    with pytest.raises(DecryptionFailed, match="belong to another"):
        CIPHER.decrypt(ciphertext, b"there")


@pytest.mark.parametrize("position", [12, 23, 24, -1])
def test_a_changed_box_does_not_open(position: int) -> None:
    ciphertext = bytearray(CIPHER.encrypt(b"secret", b"here"))
    ciphertext[position] ^= 1
    with pytest.raises(DecryptionFailed):
        CIPHER.decrypt(bytes(ciphertext), b"here")


def test_another_key_is_named_not_tried() -> None:
    other = Cipher(bytes(32))
    with pytest.raises(DecryptionFailed, match=CIPHER.key_id) as error:
        other.decrypt(CIPHER.encrypt(b"x", b""), b"")
    assert error.value.key_id == CIPHER.key_id


@pytest.mark.parametrize(
    "data", [b"", b"BCX1", b"plain bytes that are long enough to be a ciphertext"]
)
def test_what_is_no_box_is_refused(data: bytes) -> None:
    assert not is_ciphertext(data)
    with pytest.raises(DecryptionFailed):
        CIPHER.decrypt(data, b"")


def test_only_seal_same_repeats_itself() -> None:
    assert CIPHER.encrypt(b"x", b"c") != CIPHER.encrypt(b"x", b"c")
    assert CIPHER.encrypt_deterministic(b"x", b"c") == CIPHER.encrypt_deterministic(b"x", b"c")
    ciphertexts = {
        CIPHER.encrypt_deterministic(*pair) for pair in ((b"x", b"c"), (b"xc", b""), (b"y", b"c"))
    }
    assert len(ciphertexts) == 3
    assert CIPHER.decrypt(CIPHER.encrypt_deterministic(b"x", b"c"), b"c") == b"x"


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_cipher(tmp_path / "key", "BC_RECORDS_KEY_FILE")
    assert error.value.setting == "BC_RECORDS_KEY_FILE"


def test_a_key_file_is_what_openssl_writes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(bytes(range(32)).hex() + "\n")
    assert load_cipher(tmp_path / "key", "X").key_id == CIPHER.key_id


def test_a_former_key_opens_and_the_first_one_encrypts(tmp_path: Path) -> None:
    old = CIPHER.encrypt(b"x", b"c")
    path = tmp_path / "key"
    path.write_text(bytes(32).hex() + "\n" + bytes(range(32)).hex() + "\n")
    both = load_cipher(path, "BC_ARTIFACT_KEY_FILE")
    assert both.decrypt(old, b"c") == b"x"
    new = both.encrypt(b"x", b"c")
    assert both.decrypt(new, b"c") == b"x"
    assert both.key_ids == {both.key_id, CIPHER.key_id}
    assert both.key_id == Cipher(bytes(32)).key_id
    with pytest.raises(DecryptionFailed):
        CIPHER.decrypt(new, b"c")
    with pytest.raises(DecryptionFailed, match="belong to another"):
        both.decrypt(old, b"d")
