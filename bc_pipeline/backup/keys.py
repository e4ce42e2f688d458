"""What encrypts backups: a key out of a file, or a passphrase out of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from bc_pipeline.encryption import key_id_of, read_keys
from bc_pipeline.errors import ConfigError, DecryptionFailed
from bc_pipeline.settings import Settings

Kind = Literal["key", "passphrase"]
MINIMUM_PASSPHRASE = 16
# Of format 1: a file cannot ask a reader for more. 128 MiB and about half a second.
_SCRYPT = {"n": 1 << 17, "r": 8, "p": 1, "maxmem": 160 << 20}
_KEY, _PASSPHRASE = "BC_BACKUP_KEY_FILE", "BC_BACKUP_PASSPHRASE_FILE"


@dataclass(frozen=True)
class BackupKeys:
    """The secrets at hand.

    Attributes
    ----------
    keys : tuple of bytes
        The first seals, all of them open.
    passphrase : bytes or None
        Seals where there is no key.
    """

    keys: tuple[bytes, ...] = field(default=(), repr=False)
    passphrase: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> BackupKeys:
        """Read the files that the settings name.

        Raises
        ------
        ConfigError
            Where none is named, or one does not hold what it should.
        """
        key_file, passphrase_file = settings.backup_key_file, settings.backup_passphrase_file
        if key_file is None and passphrase_file is None:
            raise ConfigError(
                "Backups are encrypted, and no key for them is set.",
                f"Make one with 'openssl rand -hex 32', keep it off the volume, and name its "
                f"file in {_KEY}; or name the file of a passphrase in {_PASSPHRASE}.",
                setting=_KEY,
            )
        passphrase = None
        if passphrase_file is not None:
            try:
                passphrase = passphrase_file.read_bytes().strip()
            except OSError as error:
                raise ConfigError(
                    f"The passphrase {passphrase_file} cannot be read: {error.strerror}.",
                    setting=_PASSPHRASE,
                ) from None
            if len(passphrase) < MINIMUM_PASSPHRASE:
                raise ConfigError(
                    f"The passphrase has fewer than {MINIMUM_PASSPHRASE} characters.",
                    "Take six random words, or a key.",
                    setting=_PASSPHRASE,
                )
        return cls(tuple(read_keys(key_file, _KEY)) if key_file else (), passphrase)

    def sealing(self) -> tuple[Kind, str]:
        """What new backups are sealed with, and its id."""
        return ("key", key_id_of(self.keys[0])) if self.keys else ("passphrase", "")

    def secret(self, kind: Kind, key_id: str, salt: bytes) -> bytes:
        """The 32 bytes that the key of one file is derived from.

        Raises
        ------
        DecryptionFailed
            Where the key is not at hand.
        """
        if kind == "passphrase":
            if self.passphrase is None:
                raise DecryptionFailed(
                    "The backup was made with a passphrase.", f"Name its file in {_PASSPHRASE}."
                )
            return hashlib.scrypt(self.passphrase, salt=salt, dklen=32, **_SCRYPT)
        for key in self.keys:
            if key_id_of(key) == key_id:
                return key
        raise DecryptionFailed(
            f"The backup was made with the key {key_id}, which is not at hand.",
            f"Let {_KEY} name a file with that key.",
            key_id=key_id,
        )
