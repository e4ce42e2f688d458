"""The API key: read once at start, compared as digests in constant time."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.errors import ConfigError, KeyRefused

MINIMUM_LENGTH = 16


@dataclass(frozen=True)
class ApiKey:
    """The accepted key; only its SHA-256 is kept, so no dump of the process shows it."""

    sha256: bytes

    @classmethod
    def read(cls, path: Path) -> ApiKey:
        """Read the key from its file; white space around it does not count.

        Raises
        ------
        ConfigError
            Where there is no such file, or it holds no usable key.
        """
        remedy = "Name a file that holds the key in BC_API_KEY_FILE."
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise ConfigError(
                f"The API key file {path} cannot be read: {error.strerror}.",
                remedy,
                setting="BC_API_KEY_FILE",
            ) from None
        if len(key) < MINIMUM_LENGTH or len(key.split()) != 1 or not key.isascii():
            raise ConfigError(
                f"The API key file {path} must hold one word of {MINIMUM_LENGTH} or more "
                "ASCII characters.",
                remedy,
                setting="BC_API_KEY_FILE",
            )
        return cls(hashlib.sha256(key).digest())

    def check(self, api_key: str | None, authorization: str | None) -> None:
        """Accept ``X-API-Key: K``, or else ``Authorization: Bearer K``.

        Raises
        ------
        KeyRefused
            Where neither header carries the key.
        """
        given = api_key
        if given is None and authorization is not None:
            scheme, _, credentials = authorization.partition(" ")
            given = credentials.strip() if scheme.casefold() == "bearer" else None
        if given is None:
            raise KeyRefused(
                "The request carries no API key.",
                "Send it as 'X-API-Key: <key>' or 'Authorization: Bearer <key>'.",
            )
        # Header values arrive decoded as Latin-1, which has all 256 bytes.
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        if not hmac.compare_digest(digest, self.sha256):
            raise KeyRefused("The API key is not the service's.")
