"""Ed25519 signatures: the promoting side holds the private key, readers only public ones.

A signature is the 64 raw bytes, so that any tool can check it::

    openssl pkeyutl -verify -rawin -pubin -inkey verify.pem -sigfile manifest.sig -in manifest.json

A file of public keys may hold several, one PEM block after the other: while a key is replaced,
readers trust the old one and the new one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from bc_pipeline.artifacts.files import locked, write_atomic
from bc_pipeline.errors import ConfigError, SignatureInvalid

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
_ID_DIGITS = 16
_PUBLIC_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n?", re.DOTALL)


def make_keys(private_path: Path, public_path: Path) -> None:
    """Make a key pair; an existing pair stays, and a missing public key is written again.

    Raises
    ------
    ConfigError
        Where the two files are not a pair, or only the public key exists: with a new pair no
        earlier version could be verified.
    """
    if not private_path.exists():
        with locked(private_path.parent / ".keys.lock"):
            if not private_path.exists():
                if public_path.exists():
                    raise ConfigError(
                        f"The private key {private_path} of {public_path} is missing.",
                        "Restore the private key, or move the public key away to make a new pair: "
                        "versions signed before are then refused.",
                        setting="BC_SIGNING_KEY_FILE",
                    )
                write_atomic(private_path, new_private_key(), mode=PRIVATE_MODE)
    # The private key is written first: after a crash here the public key can be derived from it.
    # Its folder may be read-only, such as /run/secrets, so nothing is locked if it exists.
    public = load_public_keys(private_path)
    if not public_path.exists():
        write_atomic(public_path, public_pem(public.values()), mode=PUBLIC_MODE)
    elif not public.keys() <= load_public_keys(public_path).keys():
        raise ConfigError(
            f"{public_path} is not the public key of {private_path}.",
            "Set BC_SIGNING_KEY_FILE and BC_VERIFY_KEY_FILE to the two keys of one pair.",
            setting="BC_VERIFY_KEY_FILE",
        )


def new_private_key() -> bytes:
    """A new private key, in PEM form."""
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def public_pem(keys: Iterable[Ed25519PublicKey]) -> bytes:
    """The content of a file of public keys."""
    return b"".join(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys
    )


def key_id(key_path: Path) -> str:
    """Id of a private key, or of the first public key of a file: a short digest of the public key.

    Raises
    ------
    ConfigError
    """
    return next(iter(load_public_keys(key_path)))


def load_public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """Every public key of a file by its id, in the file's order.

    Parameters
    ----------
    path : Path
        One or more public keys in PEM form, or one private key.

    Raises
    ------
    ConfigError
        Where the file is missing, or holds anything but Ed25519 keys.
    """
    data = _key_bytes(path, "BC_VERIFY_KEY_FILE", "verification")
    if b"PRIVATE KEY" in data:
        return _by_id([_private_key(path).public_key()])
    # Without a complete block, the whole content is judged by the loader.
    blocks = _PUBLIC_BLOCK.findall(data) or [data]
    keys = []
    for block in blocks:
        try:
            key = load_pem_public_key(block)
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PublicKey) or data.count(b"-----BEGIN ") != len(blocks):
            raise ConfigError(
                f"{path} is not an Ed25519 public key in PEM form, or several of them.",
                "Set BC_VERIFY_KEY_FILE to such a file.",
                setting="BC_VERIFY_KEY_FILE",
            )
        keys.append(key)
    return _by_id(keys)


def public_keys_of(private_pem: bytes) -> dict[str, Ed25519PublicKey]:
    """The public key of a private one in PEM form, by its id."""
    key = load_pem_private_key(private_pem, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return _by_id([key.public_key()])


def _by_id(keys: Iterable[Ed25519PublicKey]) -> dict[str, Ed25519PublicKey]:
    return {hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_ID_DIGITS]: key for key in keys}


def sign(data: bytes, private_path: Path) -> bytes:
    """Sign bytes with the private key.

    Returns
    -------
    bytes
        64 of them.

    Raises
    ------
    ConfigError
        Where the key is missing or is not an Ed25519 private key.
    """
    return _private_key(private_path).sign(data)


def verify(data: bytes, signature: bytes, key_path: Path, *, source: str = "") -> str:
    """Check a signature.

    Parameters
    ----------
    key_path : Path
        Public keys, each of which is trusted; or the private key, which contains its public one.
    source : str
        Name of the data, for the message.

    Returns
    -------
    str
        Id of the key that made it.

    Raises
    ------
    SignatureInvalid
    ConfigError
        Where the key is missing or is not an Ed25519 key.
    """
    keys = load_public_keys(key_path)
    for name, key in keys.items():
        try:
            key.verify(signature, data)
        except InvalidSignature:
            continue
        return name
    raise SignatureInvalid(
        f"{source or 'The data'} does not bear a signature of a trusted key: {key_path.name} "
        f"holds {', '.join(keys)}.",
        "It was changed, or signed with another key; do not use it.",
        path=source,
    )


def _key_bytes(path: Path, setting: str, half: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The {half} key {path} cannot be read: {error.strerror}.",
            f"Make a pair with `bc-pipeline keys init`, or set {setting} to yours.",
            setting=setting,
        ) from None


def _private_key(path: Path) -> Ed25519PrivateKey:
    data = _key_bytes(path, "BC_SIGNING_KEY_FILE", "signing")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{path} is not an unencrypted Ed25519 private key in PEM form.",
            "Set BC_SIGNING_KEY_FILE to one.",
            setting="BC_SIGNING_KEY_FILE",
        )
    return key
