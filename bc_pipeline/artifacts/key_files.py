"""Replacement of the files with signing keys: one private key, and the public keys of readers."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.errors import ConfigError


def replace_pair(signing_key: Path, verify_key: Path, private_pem: bytes) -> None:
    """Let readers trust a new key beside those of now, and then sign with it.

    The public keys are written first: a reader never meets a signature of a key that it does
    not know. Modes of the files stay.

    Raises
    ------
    ConfigError
        Where the files cannot be written, as mounted secrets cannot.
    """
    _replace(verify_key, merged_public_keys(verify_key, private_pem), "BC_VERIFY_KEY_FILE")
    _replace(signing_key, private_pem, "BC_SIGNING_KEY_FILE")


def merged_public_keys(verify_key: Path, private_pem: bytes) -> bytes:
    """The content of a file of public keys with that of a private key before them."""
    new = signing.public_keys_of(private_pem)
    return signing.public_pem((new | signing.load_public_keys(verify_key)).values())


def remove_public_key(verify_key: Path, key_id: str) -> None:
    """Let readers no longer trust a key; nothing changes where they do not.

    Raises
    ------
    ConfigError
        Where it is the only one, or the file cannot be written.
    """
    keys = signing.load_public_keys(verify_key)
    if key_id not in keys:
        return
    del keys[key_id]
    if not keys:
        raise ConfigError(
            f"{key_id} is the only key in {verify_key}.",
            "Make another one first: `bc-pipeline keys rotate-signing`.",
            setting="BC_VERIFY_KEY_FILE",
        )
    _replace(verify_key, signing.public_pem(keys.values()), "BC_VERIFY_KEY_FILE")


def _replace(path: Path, data: bytes, setting: str) -> None:
    try:
        write_atomic(path, data, mode=path.stat().st_mode & 0o777)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be replaced: {error.strerror}.",
            "It may be a mounted secret: with --out FOLDER the command writes the new files there.",
            setting=setting,
        ) from None
