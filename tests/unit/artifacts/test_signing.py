from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bc_pipeline.artifacts import signing
from bc_pipeline.errors import ConfigError, SignatureInvalid


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    pair = tmp_path / "keys" / "signing.pem", tmp_path / "keys" / "verify.pem"
    signing.make_keys(*pair)
    return pair


def test_a_signature_verifies_with_the_public_key(keys: tuple[Path, Path]) -> None:
    signature = signing.sign(b"manifest", keys[0])
    assert len(signature) == 64
    signing.verify(b"manifest", signature, keys[1])
    signing.verify(b"manifest", signature, keys[0])


@pytest.mark.parametrize(
    ("data", "alter"),
    [
        (b"manifesT", lambda signature: signature),
        (b"manifest", lambda signature: signature[:-1]),
        (b"manifest", lambda signature: signature + b"\n"),
        (b"manifest", lambda signature: bytes([signature[0] ^ 1]) + signature[1:]),
        (b"manifest", lambda signature: b""),
    ],
)
def test_other_bytes_are_refused(keys: tuple[Path, Path], data: bytes, alter) -> None:
    signature = signing.sign(b"manifest", keys[0])
    with pytest.raises(SignatureInvalid, match=r"manifest\.json"):
        signing.verify(data, alter(signature), keys[1], source="manifest.json")


def test_another_pairs_signature_is_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pem", tmp_path / "other_verify.pem"
    signing.make_keys(*other)
    with pytest.raises(SignatureInvalid):
        signing.verify(b"x", signing.sign(b"x", other[0]), keys[1])


def test_only_the_owner_reads_the_private_key(keys: tuple[Path, Path]) -> None:
    modes = [stat.S_IMODE(path.stat().st_mode) for path in keys]
    assert modes == [0o600, 0o644]


def test_an_existing_pair_is_not_replaced(keys: tuple[Path, Path]) -> None:
    before = [path.read_bytes() for path in keys]
    signing.make_keys(*keys)
    assert [path.read_bytes() for path in keys] == before


def test_no_lock_is_written_beside_an_existing_private_key(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """It may be a secret that is mounted: its folder cannot be written."""
    secret = tmp_path / "secrets" / "signing_key"
    secret.parent.mkdir()
    secret.write_bytes(keys[0].read_bytes())
    public = tmp_path / "volume" / "verify.pem"
    signing.make_keys(secret, public)
    assert public.read_bytes() == keys[1].read_bytes()
    assert list(secret.parent.iterdir()) == [secret]


def test_a_missing_public_key_is_written_again(keys: tuple[Path, Path]) -> None:
    public = keys[1].read_bytes()
    keys[1].unlink()
    signing.make_keys(*keys)
    assert keys[1].read_bytes() == public


def test_a_lone_public_key_is_not_overwritten(keys: tuple[Path, Path]) -> None:
    keys[0].unlink()
    before = keys[1].read_bytes()
    with pytest.raises(ConfigError, match="is missing") as caught:
        signing.make_keys(*keys)
    assert caught.value.setting == "BC_SIGNING_KEY_FILE"
    assert keys[1].read_bytes() == before
    assert not keys[0].exists()


def test_keys_of_different_pairs_are_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    signing.make_keys(tmp_path / "b.pem", tmp_path / "b_verify.pem")
    with pytest.raises(ConfigError, match="is not the public key of"):
        signing.make_keys(keys[0], tmp_path / "b_verify.pem")


def test_a_missing_key_names_its_setting_and_the_remedy(tmp_path: Path) -> None:
    for setting, use in (
        ("BC_SIGNING_KEY_FILE", lambda path: signing.sign(b"", path)),
        ("BC_VERIFY_KEY_FILE", lambda path: signing.verify(b"", b"", path)),
    ):
        with pytest.raises(ConfigError, match="keys init") as caught:
            use(tmp_path / "none.pem")
        assert caught.value.setting == setting
        assert setting in caught.value.remedy


def test_a_key_of_another_kind_is_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    rsa = generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for content in (rsa, b"not a key", keys[1].read_bytes()):
        path = tmp_path / "key.pem"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="not an unencrypted Ed25519 private key"):
            signing.sign(b"", path)
    for content in (rsa, b"not a key"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="not an"):
            signing.verify(b"", b"", path)


# Several keys


@pytest.fixture
def two(keys: tuple[Path, Path], tmp_path: Path) -> Path:
    """A file with the public keys of the pair and of another one, whose private key is beside."""
    other = tmp_path / "other.pem", tmp_path / "other_verify.pem"
    signing.make_keys(*other)
    path = tmp_path / "two.pem"
    path.write_bytes(other[1].read_bytes() + keys[1].read_bytes())
    return path


def test_each_of_several_keys_verifies_and_is_named(
    keys: tuple[Path, Path], two: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    assert list(signing.load_public_keys(two)) == [signing.key_id(other), signing.key_id(keys[0])]
    for private in (keys[0], other):
        assert signing.verify(b"x", signing.sign(b"x", private), two) == signing.key_id(private)
    signing.make_keys(tmp_path / "third.pem", tmp_path / "third_verify.pem")
    with pytest.raises(SignatureInvalid) as caught:
        signing.verify(b"x", signing.sign(b"x", tmp_path / "third.pem"), two)
    for key_id in signing.load_public_keys(two):
        assert key_id in caught.value.message


def test_a_pair_stays_one_with_further_public_keys(keys: tuple[Path, Path], two: Path) -> None:
    before = two.read_bytes()
    signing.make_keys(keys[0], two)
    assert two.read_bytes() == before


def test_a_key_id_is_short_and_of_the_public_key(keys: tuple[Path, Path]) -> None:
    key_id = signing.key_id(keys[1])
    assert key_id == signing.key_id(keys[0])
    assert len(key_id) == 16
    assert set(key_id) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-30],
        lambda data: data.replace(b"-----BEGIN PUBLIC KEY-----", b"-----BEGIN CERTIFICATE-----", 1),
        lambda data: data + b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ],
)
def test_one_bad_block_of_several_is_refused(two: Path, change) -> None:
    two.write_bytes(change(two.read_bytes()))
    with pytest.raises(ConfigError, match="not an Ed25519 public key"):
        signing.load_public_keys(two)
