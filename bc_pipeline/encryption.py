"""Authenticated encryption of bytes at rest: AES-256-GCM with a key id in front.

A ciphertext is ``magic (4) | key id (8) | nonce (12) | encrypted bytes and tag``. The context, such
as the name of a version and of a file in it, is authenticated too: a ciphertext does not decrypt
in another context.

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


def is_ciphertext(data: bytes) -> bool:
    """Whether bytes have the form that `Cipher.encrypt` returns."""
    return data.startswith(MAGIC) and len(data) > _HEAD


def ciphertext_key_id(ciphertext: bytes) -> str:
    """The `Cipher.key_id` of the key that a ciphertext was made with."""
    return ciphertext[len(MAGIC) : len(MAGIC) + _ID_BYTES].hex()


class Cipher:
    """Encrypts with one key; decrypts with it and with former ones.

    Attributes
    ----------
    key_id : str
        Identifies the key without revealing it; part of every ciphertext.
    """

    def __init__(self, key: bytes, *former: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.key_id = key_id_of(key)
        self._nonce_key = hashlib.sha256(b"nonce" + key).digest()
        self._keys = {key_id_of(one): AESGCM(one) for one in (key, *former)}

    @property
    def key_ids(self) -> frozenset[str]:
        """Ids of all keys that can decrypt."""
        return frozenset(self._keys)

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        """Encrypt with a random nonce: each call returns another ciphertext."""
        return self._encrypt(os.urandom(_NONCE_BYTES), data, context)

    def encrypt_deterministic(self, data: bytes, context: bytes) -> bytes:
        """Encrypt so that the same bytes in the same context give the same ciphertext.

        For files that a repeated run must write identically: the nonce is a keyed hash of both,
        so it repeats only for the same bytes and context.
        """
        digest = hmac.digest(
            self._nonce_key, len(context).to_bytes(8, "big") + context + data, "sha256"
        )
        return self._encrypt(digest[:_NONCE_BYTES], data, context)

    def decrypt(self, ciphertext: bytes, context: bytes) -> bytes:
        """Decrypt.

        Raises
        ------
        DecryptionFailed
            Where the bytes are no ciphertext, belong to another key or context, or were changed.
        """
        from cryptography.exceptions import InvalidTag

        if not is_ciphertext(ciphertext):
            raise DecryptionFailed("The bytes are not encrypted as they should be.")
        key_id = ciphertext_key_id(ciphertext)
        if key_id not in self._keys:
            raise DecryptionFailed(
                f"The bytes are encrypted with the key {key_id}; the key at hand is {self.key_id}.",
                "Set it to the key that they were encrypted with.",
                key_id=key_id,
            )
        nonce = ciphertext[_HEAD - _NONCE_BYTES : _HEAD]
        try:
            return self._keys[key_id].decrypt(
                nonce, ciphertext[_HEAD:], bytes.fromhex(key_id) + context
            )
        except InvalidTag:
            raise DecryptionFailed(
                "Encrypted bytes were changed, or belong to another file or record.", key_id=key_id
            ) from None

    def _encrypt(self, nonce: bytes, data: bytes, context: bytes) -> bytes:
        key_id = bytes.fromhex(self.key_id)
        encrypted = self._keys[self.key_id].encrypt(nonce, data, key_id + context)
        return MAGIC + key_id + nonce + encrypted


def key_id_of(key: bytes) -> str:
    """Id of a key, which does not reveal it."""
    return hashlib.sha256(b"key id" + key).digest()[:_ID_BYTES].hex()


def load_cipher(path: Path, setting: str) -> Cipher:
    """The cipher of a key file: 64 hexadecimal digits, as ``openssl rand -hex 32`` writes them.

    Further lines of that form are former keys, which are used for decryption only.

    Raises
    ------
    ConfigError
        Where the file cannot be read or holds no such key; names the setting.
    """
    remedy = f"Make one with 'openssl rand -hex 32', and name its file in {setting}."
    try:
        keys = [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigError(f"{path} does not hold a 256-bit key.", remedy, setting=setting)
    return Cipher(*keys)
