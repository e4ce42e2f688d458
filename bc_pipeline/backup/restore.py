"""Bringing a backup back: everything is read and checked aside, and then put in place.

Files are written to a folder inside of their volume, so that a rename puts them in place also
where the volume is a mount. As long as that folder is there, the volume counts as half
restored, and nothing starts on it. Models come last, in one rename: before it, no reader finds
a champion.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.artifacts.files import (
    DIRECTORY_MODE,
    locked,
    make_directory,
    sync_directory,
)
from bc_pipeline.artifacts.store_format import RESTORING
from bc_pipeline.backup import contents, placing
from bc_pipeline.backup.archive import Manifest, Sink
from bc_pipeline.backup.check import require_sound
from bc_pipeline.backup.verify import Checked, Tell, open_backup, silent, trusted_key
from bc_pipeline.errors import ConfigError, StackError
from bc_pipeline.records import segments
from bc_pipeline.records.database import FILE_NAME
from bc_pipeline.records.transfer import database_file, loading
from bc_pipeline.settings import Settings
from bc_pipeline.stack.state import load_state, supervisor_runs

_KEYS_MODE = 0o700


@dataclass(frozen=True)
class Restored:
    """What was brought back.

    Attributes
    ----------
    set_aside : tuple of Path
        Folders with what stood there before; nothing reads them any more.
    database : str
        Where the records went: ``file``, ``postgresql``, ``sqlite`` or, without records, none.
    """

    home: Path
    checked: Checked
    set_aside: tuple[Path, ...]
    database: str


def restore_backup(
    settings: Settings, backup: Path, *, replace: bool = False, tell: Tell = silent
) -> Restored:
    """Restore a backup into the volume, the records folder and the database of the settings.

    Parameters
    ----------
    replace : bool
        Set aside, in the same folder, what stands there already; otherwise it is in the way.

    Raises
    ------
    ConfigError
        Where a folder is not empty, or the database is not.
    StackError
        Where something runs on the volume.
    BackupInvalid, DecryptionFailed, StoreUnfit
        Nothing was put in place.
    RecordsAway, TransientError
    """
    records = contents.records_root(settings)
    _require_stopped(settings, records)
    # Where the log stands on the volume, as it does by default, it is moved with it.
    place = contents.place_below(settings.home, records)
    tops = [settings.home] if place is not None else [records, settings.home]
    # Now: the database that is loaded before files are moved may be one of them.
    before = {top: _in_the_way(top, settings, replace=replace) for top in tops}
    with locked(make_directory(settings.home) / ".restore.lock", timeout=1.0):
        staging = {
            "home": settings.home / RESTORING,
            "records": tops[0] / RESTORING / (place or ""),
        }
        begun = False
        try:
            for top in tops:
                placing.begin(top)
            checked = _read(settings, backup, staging, tell)
            with _records_loaded(settings, staging["records"], checked.manifest) as database:
                begun = True
                for top in tops:
                    placing.mark(top)
                set_aside = [
                    folder for top in tops for folder in placing.put_in_place(top, before[top])
                ]
        except BaseException:
            if not begun:
                for top in tops:
                    placing.give_up(top)
            raise
        for top in tops:
            placing.end(top)
    return Restored(settings.home, checked, tuple(set_aside), database)


def _require_stopped(settings: Settings, records: Path) -> None:
    runs = supervisor_runs(load_state(settings))
    for problem in contents.folders_below(records):
        folder = records / problem
        # A drainer may have died, and its workers write on.
        locks = [folder / segments.DRAIN_LOCK, *segments.listed(segments.spool_folder(folder))]
        runs = runs or any(lock.exists() and segments.is_held(lock) for lock in locks)
    if runs:
        raise StackError(
            f"A stack or a service runs on {settings.home}.",
            "Stop it, or restore into another folder: --home.",
        )


def _in_the_way(top: Path, settings: Settings, *, replace: bool) -> list[Path]:
    """What stands in a folder and is to be set aside, if it may."""
    found = placing.standing(top)
    if found and not replace:
        raise ConfigError(
            f"{top} is not empty: {', '.join(path.name for path in found[:5])}.",
            "Restore into an empty folder; or give --replace, which sets aside what is there.",
            setting="home",
        )
    database = database_file(settings)
    if database and any(contents.place_below(path, database) is not None for path in found):
        raise ConfigError(
            f"The database that BC_RECORDS_URL names, {database}, is among what is set aside.",
            "Restore into an empty folder, or name an empty database elsewhere.",
            setting="BC_RECORDS_URL",
        )
    return found


def _read(settings: Settings, backup: Path, staging: dict[str, Path], tell: Tell) -> Checked:
    """Write every file aside, durably, and check them all."""

    @contextmanager
    def receive(name: str) -> Iterator[Sink]:
        final = _place(staging, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(final, flags, 0o600), "wb") as stream:
            yield stream.write
            stream.flush()
            os.fsync(stream.fileno())

    manifest = open_backup(backup, settings, receive, tell)
    for entry in manifest.entries:
        path = _place(staging, entry.name)
        path.chmod(entry.mode & 0o777)
        os.utime(path, ns=(entry.modified, entry.modified))
    tell("checking signatures, digests and the audit log", None)
    home = staging["home"]
    # The check takes locks, and so leaves hidden files beside what it looks at.
    key = trusted_key(settings, manifest, home / ".verify.pem")
    checked = require_sound(home, manifest, key)
    for path in [*home.rglob(".*")]:
        if path.name != placing.MARK:
            path.unlink()
    for folder in staging.values():
        _settle(folder)
    return Checked(manifest, checked)


def _place(staging: dict[str, Path], name: str) -> Path:
    root, _, rest = name.partition("/")
    return staging[root] / rest


def _settle(top: Path) -> None:
    """Give folders their modes, and make the names in them durable."""
    if not top.exists():
        return
    for folder, _, _ in os.walk(top):
        path = Path(folder)
        if path != top or top.name != RESTORING:
            keys = contents.KEYS in path.relative_to(top).parts[:1]
            path.chmod(_KEYS_MODE if keys else DIRECTORY_MODE)
        sync_directory(path)


@contextmanager
def _records_loaded(settings: Settings, staged: Path, manifest: Manifest) -> Iterator[str]:
    """Load the records into the database that is set; without one, they stay a file.

    They are there for good when the block, which puts the files in place, has ended.
    """
    name = f"{settings.service_problem}/{FILE_NAME}"
    if f"{contents.RECORDS}/{name}" not in manifest.databases:
        yield ""
    elif settings.records_url is None:
        yield "file"
    else:
        copy = staged / name
        with loading(settings, copy) as kind:
            copy.unlink()
            yield kind
