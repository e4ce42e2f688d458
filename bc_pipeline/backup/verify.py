"""Reading a backup through without restoring it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.artifacts.store_format import STORE_FORMAT
from bc_pipeline.backup.archive import Manifest, Receiver, Sink, read_archive
from bc_pipeline.backup.check import is_needed, require_sound
from bc_pipeline.backup.keys import BackupKeys
from bc_pipeline.backup.stream import OpeningStream
from bc_pipeline.errors import BackupInvalid, ConfigError, StoreUnfit
from bc_pipeline.settings import Settings

Tell = Callable[[str, float | None], None]


def silent(_: str, __: float | None) -> None:
    """Tell nobody."""
    return


@dataclass(frozen=True)
class Checked:
    """A backup that holds together.

    Attributes
    ----------
    checked : dict of str to int
        See `require_sound`.
    """

    manifest: Manifest
    checked: dict[str, int]

    def summary(self) -> dict[str, object]:
        """What it holds, as plain JSON values."""
        manifest = self.manifest
        files = Counter(_area(entry.name) for entry in manifest.entries)
        return {
            "created_at": manifest.created_at,
            "release": manifest.package_version,
            "store_format": manifest.store_format,
            "files": dict(sorted(files.items())),
            "bytes": sum(entry.size for entry in manifest.entries),
            **self.checked,
            "generations": manifest.generations,
            "databases": manifest.databases,
            "with_keys": manifest.with_keys,
            "left_out": list(manifest.left_out),
        }


def _area(name: str) -> str:
    root, first, *_ = name.split("/")
    return root if root == "records" else first


def verify_backup(
    path: Path, settings: Settings, *, room: Path | None = None, tell: Tell = silent
) -> Checked:
    """Read a backup through: every byte authenticated, every digest, signature and chain held.

    Parameters
    ----------
    room : Path, optional
        Where manifests, registries and the audit log are put to be checked, in a private
        folder for as long as that takes; otherwise where the system has temporary files.

    Raises
    ------
    BackupInvalid
    DecryptionFailed
        Where the key at hand is not the one.
    ConfigError
    StoreUnfit
        Where it is of a later release.
    """
    with tempfile.TemporaryDirectory(prefix="bc-backup-", dir=room) as folder:
        staged = Path(folder)

        @contextmanager
        def receive(name: str) -> Iterator[Sink]:
            if not is_needed(name):
                yield len
                return
            final = staged / name
            final.parent.mkdir(parents=True, exist_ok=True)
            with final.open("wb") as stream:
                yield stream.write

        manifest = open_backup(path, settings, receive, tell)
        key = trusted_key(settings, manifest, staged / "verify.pem")
        return Checked(manifest, require_sound(staged / "home", manifest, key))


def open_backup(path: Path, settings: Settings, receive: Receiver, tell: Tell) -> Manifest:
    """Read the archive, and see that this release can use what it holds.

    Raises
    ------
    BackupInvalid, DecryptionFailed, ConfigError, StoreUnfit
    """
    keys = BackupKeys.of(settings)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise BackupInvalid(f"{path} cannot be read: {error.strerror}.", path=str(path)) from None
    with stream:
        size = path.stat().st_size
        opening = OpeningStream(stream, keys, path.name)

        @contextmanager
        def counted(name: str) -> Iterator[Sink]:
            tell(f"reading {name}", stream.tell() / size)
            with receive(name) as sink:
                yield sink

        manifest = read_archive(opening, counted)
    if manifest.store_format > STORE_FORMAT:
        raise StoreUnfit(
            f"The backup is of a volume of format {manifest.store_format}; this release reads up "
            f"to format {STORE_FORMAT}.",
            f"Use release {manifest.package_version} or a later one.",
            found=manifest.store_format,
            known=STORE_FORMAT,
        )
    return manifest


def trusted_key(settings: Settings, manifest: Manifest, scratch: Path) -> Path:
    """The public key to hold signatures against: the one that is set, or that of the backup.

    The backup's is as trustworthy as its files: who made it had the key of backups.

    Raises
    ------
    ConfigError
        Where the one that is set is not there.
    """
    key = settings.verify_key_file
    if key is not None:
        if not key.is_file():
            raise ConfigError(
                f"There is no verification key {key} to hold the backup's versions against.",
                "Bring it there; or set BC_VERIFY_KEY_FILE for this command to nothing, to trust "
                "the key in the backup.",
                setting="BC_VERIFY_KEY_FILE",
            )
        return key
    write_atomic(scratch, manifest.verify_key.encode())
    return scratch
