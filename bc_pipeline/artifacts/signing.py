"""Ed25519 signatures: the promoting side holds the private key, readers only the public one.

A signature is the 64 raw bytes, so that any tool can check it::

    openssl pkeyutl -verify -rawin -pubin -inkey verify.pem -sigfile manifest.sig -in manifest.json
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.files import locked, write_atomic
from bc_pipeline.errors import ConfigError, SignatureInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def make_keys(private_path: Path, public_path: Path) -> None:
    """Make a key pair; one that is there stays, and half a pair is completed where it can be.

    Raises
    ------
    ConfigError
        Where the two files do not belong together, or only the public key is there: a new
        pair would make every version signed before unreadable.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    if not private_path.exists():
        with locked(private_path.parent / ".keys.lock"):
            if not private_path.exists():
                if public_path.exists():
                    raise ConfigError(
                        f"The public key {public_path} has lost its private key {private_path}.",
                        "Restore the private key, or move the public key away to start anew: "
                        "versions signed before are then refused.",
                        setting="BC_SIGNING_KEY_FILE",
                    )
                made = Ed25519PrivateKey.generate()
                pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                write_atomic(private_path, pem, mode=PRIVATE_MODE)
    # The private key comes first: a crash here leaves a half that can be completed. It may
    # stand in a folder that cannot be written, such as /run/secrets: nothing is locked there.
    public = _public_pem(_private_key(private_path))
    if not public_path.exists():
        write_atomic(public_path, public, mode=PUBLIC_MODE)
    elif _public_pem(_public_key(public_path)) != public:
        raise ConfigError(
            f"{public_path} is not the public key of {private_path}.",
            "Let BC_SIGNING_KEY_FILE and BC_VERIFY_KEY_FILE name two halves of one pair.",
            setting="BC_VERIFY_KEY_FILE",
        )


def sign(data: bytes, private_path: Path) -> bytes:
    """Sign bytes with the private key.

    Returns
    -------
    bytes
        64 of them.

    Raises
    ------
    ConfigError
        Where the key is missing or is no Ed25519 private key.
    """
    return _private_key(private_path).sign(data)


def verify(data: bytes, signature: bytes, key_path: Path, *, source: str = "") -> None:
    """Check a signature.

    Parameters
    ----------
    key_path : Path
        The public key; the writing side may give its private key, which holds the public
        one.
    source : str
        What the bytes are, for the message.

    Raises
    ------
    SignatureInvalid
    ConfigError
        Where the key is missing or is no Ed25519 key.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        _public_key(key_path).verify(signature, data)
    except InvalidSignature:
        raise SignatureInvalid(
            f"{source or 'The data'} does not bear a signature of the key {key_path.name}.",
            "It was changed, or signed with another key; do not use it.",
            path=source,
        ) from None


def _public_pem(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _key_bytes(path: Path, setting: str, half: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The {half} key {path} cannot be read: {error.strerror}.",
            f"Make a pair with `bc-pipeline keys init`, or let {setting} name yours.",
            setting=setting,
        ) from None


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _key_bytes(path, "BC_SIGNING_KEY_FILE", "signing")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{path} is not an unencrypted Ed25519 private key in PEM form.",
            "Let BC_SIGNING_KEY_FILE name one.",
            setting="BC_SIGNING_KEY_FILE",
        )
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _key_bytes(path, "BC_VERIFY_KEY_FILE", "verification")
    if b"PRIVATE KEY" in data:
        return _private_key(path).public_key()
    try:
        key = load_pem_public_key(data)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"{path} is not an Ed25519 public key in PEM form.",
            "Let BC_VERIFY_KEY_FILE name one.",
            setting="BC_VERIFY_KEY_FILE",
        )
    return key
