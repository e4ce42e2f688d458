"""Restores a backup: every file is staged and checked before the first one is moved into place.

The staging folder is inside the volume, so that files are moved by a rename also where the volume
is a mount. As long as it exists, the volume counts as partly restored and no process starts on
it. Models are moved last, in one rename: before it, no reader finds a champion.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.artifacts.audit_log import list_erasures
from bc_pipeline.artifacts.files import DIRECTORY_MODE, locked, make_directory, sync_directory
from bc_pipeline.artifacts.store_format import RESTORING
from bc_pipeline.backup import contents, restore_staging
from bc_pipeline.backup.age import Identities, load_identities
from bc_pipeline.backup.archive import BackupManifest, Write
from bc_pipeline.backup.consistency import require_consistent
from bc_pipeline.backup.verify import (
    CheckedBackup,
    ProgressCallback,
    ignore_progress,
    open_backup,
    trusted_key,
)
from bc_pipeline.errors import ConfigError, StackError
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.database import FILE_NAME
from bc_pipeline.prediction_log.database_copy import database_file, load_copy
from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import is_supervisor_running, load_state

_KEYS_MODE = 0o700


@dataclass(frozen=True)
class RestoreResult:
    """A restored volume.

    Attributes
    ----------
    set_aside : tuple of Path
        Folders with the former content, which no process reads any more.
    database : str
        Where the records are: ``file``, ``postgresql``, ``sqlite``; empty without records.
    erasures : tuple of str
        Erasures that the former content knew and the backup does not: to be repeated.
    """

    checked: CheckedBackup
    set_aside: tuple[Path, ...]
    database: str
    erasures: tuple[str, ...] = ()


def restore_backup(
    settings: Settings,
    backup: Path,
    *,
    replace: bool = False,
    report: ProgressCallback = ignore_progress,
) -> RestoreResult:
    """Restore a backup into the volume, the records folder and the database of the settings.

    Parameters
    ----------
    replace : bool
        Whether existing content is moved to a folder beside it; otherwise it is an error.

    Raises
    ------
    ConfigError
        Where a folder is not empty, or the database is not.
    StackError
        Where a stack or a service runs on the volume.
    BackupInvalid, DecryptionFailed, StoreUnfit
        Nothing was moved into place.
    RecordsAway, TransientError
    """
    records = contents.records_root(settings)
    identities = load_identities(settings)
    _require_stopped(settings, records)
    # A log that is on the volume, as by default, is moved with the volume.
    records_path = contents.relative_path(settings.home, records)
    roots = [settings.home] if records_path is not None else [records, settings.home]
    # Listed before the database is loaded, which may be a new file in one of these folders.
    existing = {root: _list_existing(root, settings, replace=replace) for root in roots}
    with locked(make_directory(settings.home) / ".restore.lock", timeout=1.0):
        staging = {
            "home": settings.home / RESTORING,
            "records": roots[0] / RESTORING / (records_path or ""),
        }
        with ExitStack() as undo:
            for root in roots:
                undo.callback(restore_staging.discard, root)
            for root in roots:
                restore_staging.begin(root)
            checked = _stage_files(settings, backup, identities, staging, report)
            erasures = _later_erasures(settings.home, staging["home"])
            with _records_loaded(settings, staging["records"], checked.manifest) as database:
                # A volume with files in place stays partly restored until a restore succeeds.
                undo.pop_all()
                for root in roots:
                    restore_staging.mark(root)
                moved = [restore_staging.move_into_place(root, existing[root]) for root in roots]
        for root in roots:
            restore_staging.finish(root)
    set_aside = tuple(folder for folder in moved if folder is not None)
    return RestoreResult(checked, set_aside, database, erasures)


def _later_erasures(home: Path, staged: Path) -> tuple[str, ...]:
    """Erasures of the audit logs that are on the volume, which those of the backup lack."""
    missing = []
    for path in sorted((home / "audit").glob("[!.]*.jsonl")):
        before = list_erasures(path)
        known = {line.sha256 for line in list_erasures(staged / "audit" / path.name)}
        missing += [
            f"{path.stem} {line.details['erasure']} of {line.at}: {line.details['reason']}"
            for line in before
            if line.sha256 not in known
        ]
    return tuple(missing)


def _require_stopped(settings: Settings, records: Path) -> None:
    runs = is_supervisor_running(load_state(settings))
    for problem in contents.list_folders(records):
        folder = records / problem
        # Workers may still write although the drainer has ended.
        locks = [
            folder / segments.DRAIN_LOCK,
            *segments.list_segments(segments.spool_folder(folder)),
        ]
        runs = runs or any(lock.exists() and segments.is_locked(lock) for lock in locks)
    if runs:
        raise StackError(
            f"A stack or a service runs on {settings.home}.",
            "Stop it, or restore into another folder: --home.",
        )


def _list_existing(root: Path, settings: Settings, *, replace: bool) -> list[Path]:
    """Existing content that the restore will move away, where `replace` allows that."""
    existing = restore_staging.list_existing(root)
    if existing and not replace:
        raise ConfigError(
            f"{root} is not empty: {', '.join(path.name for path in existing[:5])}.",
            "Restore into an empty folder; or give --replace, which sets existing files aside.",
            setting="home",
        )
    database = database_file(settings)
    if database and any(contents.relative_path(path, database) is not None for path in existing):
        raise ConfigError(
            f"The database that BC_RECORDS_URL names, {database}, is among the files to set aside.",
            "Restore into an empty folder, or name an empty database elsewhere.",
            setting="BC_RECORDS_URL",
        )
    return existing


def _stage_files(
    settings: Settings,
    backup: Path,
    identities: Identities,
    staging: dict[str, Path],
    report: ProgressCallback,
) -> CheckedBackup:
    """Write every file to the staging folder, durably, and check them all."""

    @contextmanager
    def receive(name: str) -> Iterator[Write]:
        target = _staged_path(staging, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as stream:
            yield stream.write
            stream.flush()
            os.fsync(stream.fileno())

    manifest = open_backup(backup, identities, receive, report)
    for entry in manifest.entries:
        path = _staged_path(staging, entry.name)
        path.chmod(entry.mode & 0o777)
        os.utime(path, ns=(entry.modified, entry.modified))
    report("checking signatures, digests and the audit log", None)
    home = staging["home"]
    key = trusted_key(settings, manifest, home / ".verify.pem")
    counts = require_consistent(home, manifest, key)
    # The check takes locks, whose hidden files do not belong to the backup.
    for path in [*home.rglob(".*")]:
        if path.name != restore_staging.MARK:
            path.unlink()
    for folder in staging.values():
        _sync_folders(folder)
    return CheckedBackup(manifest, counts)


def _staged_path(staging: dict[str, Path], name: str) -> Path:
    root, _, rest = name.partition("/")
    return staging[root] / rest


def _sync_folders(top: Path) -> None:
    """Set the modes of folders, and make the names in them durable."""
    if not top.exists():
        return
    for folder, _, _ in os.walk(top):
        path = Path(folder)
        if path != top or top.name != RESTORING:
            keys = contents.KEYS in path.relative_to(top).parts[:1]
            path.chmod(_KEYS_MODE if keys else DIRECTORY_MODE)
        sync_directory(path)


@contextmanager
def _records_loaded(settings: Settings, staged: Path, manifest: BackupManifest) -> Iterator[str]:
    """Load the records into the database that is set; without one, they stay a file.

    They are committed when the block, which moves the files into place, has ended.
    """
    name = f"{settings.service_problem}/{FILE_NAME}"
    if f"{contents.RECORDS}/{name}" not in manifest.databases:
        yield ""
    elif settings.records_url is None:
        yield "file"
    else:
        copy = staged / name
        with load_copy(settings, copy) as kind:
            copy.unlink()
            yield kind
