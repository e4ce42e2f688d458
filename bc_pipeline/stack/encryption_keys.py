"""Rotation of keys that encrypt: the new one encrypts, and the former ones go on decrypting."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.encryption import KEY_BYTES, load_cipher
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings

Purpose = Literal["artifacts", "records"]
_PRIVATE = 0o600


@dataclass(frozen=True)
class EncryptionRotation:
    """A new key in a file of keys.

    Attributes
    ----------
    key_id, replaces : str
        The key that encrypts, and the one before.
    decrypting : tuple of str
        Every key of the file, sorted.
    file : Path
    deployed : bool
        Whether it is the file in use.
    """

    key_id: str
    replaces: str
    decrypting: tuple[str, ...]
    file: Path
    deployed: bool


def rotate_encryption_key(
    settings: Settings, purpose: Purpose, out: Path | None = None
) -> EncryptionRotation:
    """Put a new key before those of a file.

    Parameters
    ----------
    out : Path, optional
        A new file for the keys, where the one in use is a secret of a deployment.

    Raises
    ------
    ConfigError
        Where no file is set, it holds no key, or the target cannot be written.
    """
    setting, path = {
        "artifacts": ("BC_ARTIFACT_KEY_FILE", settings.artifact_key_file),
        "records": ("BC_RECORDS_KEY_FILE", settings.records_key_file),
    }[purpose]
    if path is None:
        raise ConfigError(
            f"{setting} is not set: nothing is encrypted.",
            f"Make a key with 'openssl rand -hex 32', and name its file in {setting}.",
            setting=setting,
        )
    former = load_cipher(path, setting)
    keys = f"{secrets.token_hex(KEY_BYTES)}\n".encode() + path.read_bytes()
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already.", "Name a new file.", setting="out")
    target, mode = (path, path.stat().st_mode & 0o777) if out is None else (out, _PRIVATE)
    try:
        write_atomic(target, keys, mode=mode)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {error.strerror}.",
            "It may be a mounted secret: with --out FILE the command writes a new file.",
            setting=setting,
        ) from None
    cipher = load_cipher(target, setting)
    return EncryptionRotation(
        key_id=cipher.key_id,
        replaces=former.key_id,
        decrypting=tuple(sorted(cipher.key_ids)),
        file=target,
        deployed=out is None,
    )
