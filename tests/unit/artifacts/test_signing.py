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


def test_an_existing_pair_stays(keys: tuple[Path, Path]) -> None:
    before = [path.read_bytes() for path in keys]
    signing.make_keys(*keys)
    assert [path.read_bytes() for path in keys] == before


def test_nothing_is_written_beside_a_private_key_that_is_there(
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


def test_a_crash_between_the_two_files_is_mended(keys: tuple[Path, Path]) -> None:
    public = keys[1].read_bytes()
    keys[1].unlink()
    signing.make_keys(*keys)
    assert keys[1].read_bytes() == public


def test_a_lone_public_key_is_not_overwritten(keys: tuple[Path, Path]) -> None:
    keys[0].unlink()
    before = keys[1].read_bytes()
    with pytest.raises(ConfigError, match="lost its private key") as caught:
        signing.make_keys(*keys)
    assert caught.value.setting == "BC_SIGNING_KEY_FILE"
    assert keys[1].read_bytes() == before
    assert not keys[0].exists()


def test_halves_of_two_pairs_are_told_apart(keys: tuple[Path, Path], tmp_path: Path) -> None:
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
