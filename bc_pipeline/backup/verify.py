"""Reads and checks a backup without restoring it."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.artifacts.store_format import STORE_FORMAT
from bc_pipeline.backup.age import (
    BUFFER_BYTES,
    Identities,
    decrypting,
    load_identities,
    require_age,
)
from bc_pipeline.backup.archive import BackupManifest, Receiver, Write, read_archive
from bc_pipeline.backup.consistency import is_parsed, require_consistent
from bc_pipeline.errors import BackupInvalid, ConfigError, StoreUnfit
from bc_pipeline.settings import Settings

# Receives a description of the work, and the share of it that is done, where that is known.
ProgressCallback = Callable[[str, float | None], None]


def ignore_progress(_: str, __: float | None) -> None:
    return


@dataclass(frozen=True)
class CheckedBackup:
    """A backup that is complete and consistent.

    Attributes
    ----------
    counts : dict of str to int
        See `require_consistent`.
    """

    manifest: BackupManifest
    counts: dict[str, int]

    def summary(self) -> dict[str, object]:
        """Contents and origin, as plain JSON values."""
        manifest = self.manifest
        files = Counter(_area(entry.name) for entry in manifest.entries)
        return {
            "created_at": manifest.created_at,
            "release": manifest.package_version,
            "store_format": manifest.store_format,
            "files": dict(sorted(files.items())),
            "bytes": sum(entry.size for entry in manifest.entries),
            **self.counts,
            "generations": manifest.generations,
            "databases": manifest.databases,
            "with_keys": manifest.with_keys,
            "left_out": list(manifest.left_out),
        }


def _area(name: str) -> str:
    root, first, *_ = name.split("/")
    return root if root == "records" else first


def verify_backup(
    path: Path,
    settings: Settings,
    *,
    identities: Identities | None = None,
    scratch: Path | None = None,
    report: ProgressCallback = ignore_progress,
) -> CheckedBackup:
    """Read a backup to its end, and check every byte, digest, signature and the audit chain.

    Parameters
    ----------
    identities : sequence, optional
        One of them decrypts it; by default those of the identity file in the settings.
    scratch : Path, optional
        Folder for a temporary copy of manifests, registries and the audit log; by default the
        system's folder for temporary files.

    Raises
    ------
    BackupInvalid
    DecryptionFailed
        Where no identity decrypts it.
    ConfigError
        Where a key that the settings name cannot be used.
    StoreUnfit
        Where it is of a later release.
    """
    if identities is None:
        identities = load_identities(settings)
    with tempfile.TemporaryDirectory(prefix="bc-backup-", dir=scratch) as folder:
        staged = Path(folder)

        @contextmanager
        def receive(name: str) -> Iterator[Write]:
            if not is_parsed(name):
                yield len
                return
            target = staged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                yield stream.write

        manifest = open_backup(path, identities, receive, report)
        key = trusted_key(settings, manifest, staged / "verify.pem")
        return CheckedBackup(manifest, require_consistent(staged / "home", manifest, key))


def open_backup(
    path: Path, identities: Identities, receive: Receiver, report: ProgressCallback
) -> BackupManifest:
    """Decrypt and read the archive, and check that this release can use its contents.

    Raises
    ------
    BackupInvalid, DecryptionFailed, StoreUnfit
    """
    try:
        stream = io.BufferedReader(path.open("rb", buffering=0), BUFFER_BYTES)
    except OSError as error:
        raise BackupInvalid(f"{path} cannot be read: {error.strerror}.", path=str(path)) from None
    with stream:
        require_age(stream.peek(BUFFER_BYTES), path.name)
        size = path.stat().st_size

        @contextmanager
        def receive_with_progress(name: str) -> Iterator[Write]:
            report(f"reading {name}", stream.tell() / size)
            with receive(name) as write:
                yield write

        with decrypting(stream, identities, path.name) as plain:
            manifest = read_archive(plain, receive_with_progress)
    if manifest.store_format > STORE_FORMAT:
        raise StoreUnfit(
            f"The backup is of a volume of format {manifest.store_format}; this release reads up "
            f"to format {STORE_FORMAT}.",
            f"Use release {manifest.package_version} or a later one.",
            found=manifest.store_format,
            known=STORE_FORMAT,
        )
    return manifest


def trusted_key(settings: Settings, manifest: BackupManifest, scratch: Path) -> Path:
    """The public key to check signatures with: the one that is set, or that of the backup.

    The backup's own key shows only that its versions belong together: anyone who knows the
    recipients can make a backup.

    Raises
    ------
    ConfigError
        Where the key that is set does not exist.
    """
    key = settings.verify_key_file
    if key is not None:
        if not key.is_file():
            raise ConfigError(
                f"There is no verification key {key} to check the backup's versions with.",
                "Bring it there; or set BC_VERIFY_KEY_FILE for this command to nothing, to trust "
                "the key in the backup.",
                setting="BC_VERIFY_KEY_FILE",
            )
        return key
    write_atomic(scratch, manifest.verify_key.encode())
    return scratch
