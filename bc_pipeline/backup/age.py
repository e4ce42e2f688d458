"""Backups are encrypted with age: its recipients and identities, and streams through it.

A backup is encrypted for the public keys of its recipients; only their identities (secret keys)
decrypt it. pyrage pulls from one file object and pushes to another, so it runs in a thread, and
a pipe connects it to the code that writes or reads the archive: memory stays bounded.

References
----------
The age file encryption format, https://age-encryption.org/v1
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyrage
from pyrage.x25519 import Identity, Recipient

from bc_pipeline.errors import BackupInvalid, ConfigError, DecryptionFailed
from bc_pipeline.settings import Settings

MAGIC = b"age-encryption.org/v1\n"
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_FORMER_MAGIC = b"BCBACKUP"
_RECIPIENTS, _KEY = "BC_BACKUP_RECIPIENTS", "BC_BACKUP_KEY_FILE"
BUFFER_BYTES = 1 << 18


Recipients = Sequence[Recipient]
Identities = Sequence[Identity]


def load_recipients(settings: Settings) -> list[Recipient]:
    """The public keys that backups are encrypted for.

    Raises
    ------
    ConfigError
        Where none is set, or one is not valid.
    """
    if not settings.backup_recipients:
        raise ConfigError(
            "Backups are encrypted, and no recipient is set.",
            f"Make a key with 'age-keygen -o backup.key', keep it off the volume, and set "
            f"{_RECIPIENTS} to the public key that it shows (age1...).",
            setting=_RECIPIENTS,
        )
    recipients = []
    for position, text in enumerate(settings.backup_recipients, start=1):
        try:
            recipients.append(Recipient.from_str(text))
        except pyrage.RecipientError:
            # The text is not shown: it may be a secret key that was set by mistake.
            raise ConfigError(
                f"Recipient {position} of {_RECIPIENTS} is not a public key of age (age1...).",
                "'age-keygen -y FILE' shows the public key of an identity file.",
                setting=_RECIPIENTS,
            ) from None
    return recipients


def load_identities(settings: Settings) -> list[Identity]:
    """The secret keys that decrypt backups, from the identity file that the settings name.

    Raises
    ------
    ConfigError
        Where no file is named, it cannot be read or decrypted, or holds no identity.
    """
    path = settings.backup_key_file
    if path is None:
        raise ConfigError(
            "Only its key decrypts a backup, and none is set.",
            f"Let {_KEY} name the age identity file of one of its recipients.",
            setting=_KEY,
        )
    data = _read_secret(path, _KEY)
    if data.startswith((MAGIC, _ARMOR)):
        data = _decrypt_identities(path, data, settings.backup_passphrase_file)
    try:
        lines = [line.strip() for line in data.decode("ascii").splitlines()]
        identities = [Identity.from_str(line) for line in lines if line and line[0] != "#"]
    except (UnicodeDecodeError, pyrage.IdentityError):
        identities = []
    if not identities:
        raise ConfigError(
            f"{path} does not hold age identities (AGE-SECRET-KEY-1...).",
            f"'age-keygen -o FILE' makes such a file; name it in {_KEY}.",
            setting=_KEY,
        )
    return identities


def _decrypt_identities(path: Path, data: bytes, passphrase_file: Path | None) -> bytes:
    if passphrase_file is None:
        raise ConfigError(
            f"The identity file {path} is protected by a passphrase.",
            "Let BC_BACKUP_PASSPHRASE_FILE name a file with the passphrase.",
            setting="BC_BACKUP_PASSPHRASE_FILE",
        )
    try:
        passphrase = _read_secret(passphrase_file, "BC_BACKUP_PASSPHRASE_FILE").decode().strip()
        decrypted: bytes = pyrage.passphrase.decrypt(data, passphrase)
    except (UnicodeDecodeError, pyrage.DecryptError):
        raise ConfigError(
            f"The passphrase in {passphrase_file} does not decrypt the identity file {path}.",
            "Correct it. If it is right, repeat the command later: age refuses a file whose "
            "decryption would take long, as on a busy machine.",
            setting="BC_BACKUP_PASSPHRASE_FILE",
        ) from None
    return decrypted


def _read_secret(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", setting=setting) from None


@contextmanager
def encrypting(target: BinaryIO, recipients: Recipients) -> Iterator[BinaryIO]:
    """Encrypt what the block writes.

    Parameters
    ----------
    target : BinaryIO
        Receives the encrypted bytes; all of them when the block has ended.

    Yields
    ------
    BinaryIO

    Raises
    ------
    OSError
        Where `target` cannot be written.
    """
    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1) as executor:
        encryption = None
        try:
            # Closing the pipe ends the thread; a signal that raises may come at any moment.
            with open(write_end, "wb", buffering=BUFFER_BYTES) as sink:
                encryption = executor.submit(_encrypt, read_end, target, recipients)
                yield sink
        except BrokenPipeError:
            if encryption is not None:
                # The thread has ended early; its own error is the cause.
                encryption.result()
            raise
        encryption.result()


def _encrypt(read_end: int, target: BinaryIO, recipients: Recipients) -> None:
    writer = _Writer(target)
    with open(read_end, "rb", buffering=BUFFER_BYTES) as source:
        try:
            pyrage.encrypt_io(source, writer, recipients)
        except pyrage.EncryptError:
            if writer.error is not None:
                raise writer.error from None
            raise


class _Writer:
    """Keeps the error of a failed write, of which pyrage passes on the text alone."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._target.write(data)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def decrypting(source: BinaryIO, identities: Identities, name: str) -> Iterator[BinaryIO]:
    """Decrypt a file while the block reads.

    Every chunk is authenticated before its bytes are returned. The reader reports the end of
    the data only where the file was complete.

    Parameters
    ----------
    name : str
        Of the file, for error messages.

    Raises
    ------
    BackupInvalid
        When reading: where the file was changed or cut short.
    DecryptionFailed
        When reading: where it is encrypted for other recipients.
    """
    read_end, write_end = os.pipe()
    # Closing the pipe ends the thread, also where the block has not read everything.
    with ThreadPoolExecutor(1) as executor, open(read_end, "rb", buffering=0) as pipe:
        decryption = executor.submit(_decrypt, source, write_end, identities, name)
        yield io.BufferedReader(_PlainReader(pipe, decryption), BUFFER_BYTES)


def _decrypt(source: BinaryIO, write_end: int, identities: Identities, name: str) -> None:
    with open(write_end, "wb", buffering=BUFFER_BYTES) as sink:
        try:
            pyrage.decrypt_io(source, sink, identities)
        except pyrage.DecryptError as error:
            if str(error) != "No matching keys found":
                raise _invalid(name, f"its header is damaged ({error})") from None
            raise DecryptionFailed(
                f"{name} is encrypted for other recipients than the key at hand.",
                f"Let {_KEY} name the identity file of one of its recipients.",
            ) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise _invalid(name, f"it was changed or cut short ({error})") from None


class _PlainReader(io.RawIOBase):
    """Reads from the pipe; at its end it raises the error that decryption ended with, if any."""

    def __init__(self, pipe: io.FileIO, decryption: Future[None]) -> None:
        self._pipe = pipe
        self._decryption = decryption

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self._pipe.readinto(buffer)
        if not count:
            self._decryption.result()
        return count


def require_age(head: bytes, name: str) -> None:
    """Refuse, by its first `BUFFER_BYTES`, a file that is not encrypted with age.

    Raises
    ------
    BackupInvalid
    """
    if head.startswith(_FORMER_MAGIC):
        raise BackupInvalid(
            f"{name} has the backup format of release 0.1.0, which this release does not read.",
            "Restore it with bc_pipeline 0.1.0, run `bc-pipeline upgrade` on the restored volume "
            "with this release, and take a new backup.",
            path=name,
        )
    if not head.startswith(MAGIC):
        raise _invalid(name, "it is not encrypted with age")
    # A reader collects the header in memory, so its length is checked before.
    if b"\n--- " not in head:
        raise _invalid(name, "its header is damaged")


def _invalid(name: str, why: str) -> BackupInvalid:
    return BackupInvalid(
        f"{name} is not a complete backup: {why}.", "Take another backup.", path=name
    )
