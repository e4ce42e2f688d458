"""Authenticated encryption of bytes at rest: AES-256-GCM with a key id in front.

A box is ``magic (4) | key id (8) | nonce (12) | ciphertext and tag``. The context, such as
the name of a version and of a file in it, is authenticated with the bytes: a box moved to
another place does not open there.

References
----------
NIST SP 800-38D, Galois/Counter Mode.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from bc_pipeline.errors import ConfigError, DecryptionFailed

MAGIC = b"BCX1"
KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD = len(MAGIC) + _ID_BYTES + _NONCE_BYTES


def is_box(data: bytes) -> bool:
    """Whether bytes are the form that `Cipher.seal` makes."""
    return data.startswith(MAGIC) and len(data) > _HEAD


def box_key_id(box: bytes) -> str:
    """The id of the key that a box needs, as `Cipher.key_id` tells it; no key is needed."""
    return box[len(MAGIC) : len(MAGIC) + _ID_BYTES].hex()


class Cipher:
    """One key that encrypts, and those before it, which still open.

    Attributes
    ----------
    key_id : str
        Names the key without telling it; stands in every box.
    """

    def __init__(self, key: bytes, *former: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.key_id = key_id_of(key)
        self._nonce_key = hashlib.sha256(b"nonce" + key).digest()
        self._keys = {key_id_of(each): AESGCM(each) for each in (key, *former)}

    @property
    def key_ids(self) -> frozenset[str]:
        """Of every key that opens boxes."""
        return frozenset(self._keys)

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Encrypt; each call makes another box."""
        return self._box(os.urandom(_NONCE_BYTES), data, context)

    def seal_same(self, data: bytes, context: bytes) -> bytes:
        """Encrypt so that the same bytes in the same context give the same box.

        For files that are named by their content: the nonce is a keyed hash of both, so it
        repeats only where everything else does too.
        """
        digest = hmac.digest(
            self._nonce_key, len(context).to_bytes(8, "big") + context + data, "sha256"
        )
        return self._box(digest[:_NONCE_BYTES], data, context)

    def open(self, box: bytes, context: bytes) -> bytes:
        """Decrypt.

        Raises
        ------
        DecryptionFailed
            Where the box is none, belongs to another key or context, or was changed.
        """
        from cryptography.exceptions import InvalidTag

        if not is_box(box):
            raise DecryptionFailed("The bytes are not encrypted as they should be.")
        key_id = box_key_id(box)
        if key_id not in self._keys:
            raise DecryptionFailed(
                f"The bytes are encrypted with the key {key_id}; the key at hand is {self.key_id}.",
                "Point the setting at the key that it was encrypted with.",
                key_id=key_id,
            )
        nonce = box[_HEAD - _NONCE_BYTES : _HEAD]
        try:
            return self._keys[key_id].decrypt(nonce, box[_HEAD:], bytes.fromhex(key_id) + context)
        except InvalidTag:
            raise DecryptionFailed(
                "Encrypted bytes were changed, or moved to another place.", key_id=key_id
            ) from None

    def _box(self, nonce: bytes, data: bytes, context: bytes) -> bytes:
        key_id = bytes.fromhex(self.key_id)
        sealed = self._keys[self.key_id].encrypt(nonce, data, key_id + context)
        return MAGIC + key_id + nonce + sealed


def key_id_of(key: bytes) -> str:
    """Names a key without telling it."""
    return hashlib.sha256(b"key id" + key).digest()[:_ID_BYTES].hex()


def load_cipher(path: Path, setting: str) -> Cipher:
    """The cipher of a key file; see `read_keys`.

    Raises
    ------
    ConfigError
    """
    return Cipher(*read_keys(path, setting))


def read_keys(path: Path, setting: str) -> list[bytes]:
    """Read a key file: 64 hexadecimal digits, as ``openssl rand -hex 32`` writes them.

    Further lines of that form are keys of before: they open what they encrypted.

    Raises
    ------
    ConfigError
        Naming the setting, where the file cannot be read or holds no such key.
    """
    remedy = f"Make one with 'openssl rand -hex 32', and name its file in {setting}."
    try:
        keys = [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigError(f"{path} does not hold a 256-bit key.", remedy, setting=setting)
    return keys
