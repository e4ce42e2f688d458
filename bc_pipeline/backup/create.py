"""Creates a backup of a volume that is in use.

Files are copied in an order that makes the result consistent: each before the files that it
refers to, so that no copy refers to something that is missing.

- The service's replay guard is copied before the registry, because the guard accepts a registry
  that is as new or newer.
- The prediction log is copied before its quarantine and its database: the drainer moves entries
  from the log to one of these, so each entry is in at least one copy. Where it is in both, the
  drainer inserts it, or quarantines it, once. The offsets of the drainer are left out, so it
  starts at the beginning of the copied log.
- Registry and audit log are copied together under the registry's lock, then the versions, then
  the data: each refers only to what existed before it.

The file is read back, decrypted and checked as a whole before it gets its name. The identities of
the recipients are not needed for that: the file is also encrypted for an identity that this
process generates for the check alone and never stores.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyrage.x25519 import Identity

from bc_pipeline import __version__
from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.artifacts.registry import read_unsigned_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import require_not_newer, require_volume
from bc_pipeline.artifacts.versions import list_versions
from bc_pipeline.backup import contents
from bc_pipeline.backup.age import encrypting, load_recipients
from bc_pipeline.backup.archive import ArchiveWriter, BackupManifest, writing_archive
from bc_pipeline.backup.unfinished import SUFFIX, remove_unfinished, unfinished_file
from bc_pipeline.backup.verify import (
    CheckedBackup,
    ProgressCallback,
    ignore_progress,
    verify_backup,
)
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import ConfigError
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.database import FILE_NAME
from bc_pipeline.prediction_log.database_copy import copy_database, copy_sqlite, database_file
from bc_pipeline.settings import Settings
from bc_pipeline.tables.file_names import printable_name

_SCRATCH = ".backup-"


@dataclass(frozen=True)
class CreatedBackup:
    """A backup that was written and checked."""

    path: Path
    checked: CheckedBackup


def create_backup(
    settings: Settings,
    target: Path,
    *,
    with_keys: bool = True,
    force: bool = False,
    report: ProgressCallback = ignore_progress,
) -> CreatedBackup:
    """Write a backup, and check it before it gets its name.

    Parameters
    ----------
    target : Path
        A file, or a folder for a file that is named by the time.
    with_keys : bool
        False to leave out the volume's keys.
    force : bool
        Replace an existing file.

    Raises
    ------
    ConfigError
        Where there is no volume, no recipient is set, or the file exists.
    BackupInvalid
        Where files on the volume are damaged; it names all of them.
    RecordsAway, TransientError, StoreUnfit
    """
    require_volume(settings.home)
    store_format = require_not_newer(settings.home)
    recipients = load_recipients(settings)
    started = now()
    if target.is_dir():
        target = target / f"bc-pipeline-{started:%Y%m%dT%H%M%SZ}{SUFFIX}"
    _require_usable_paths(target, settings, force=force)
    remove_unfinished(target)
    with _open_scratch(settings.home) as scratch, unfinished_file(target) as staged:
        identity = Identity.generate()
        with (
            staged.open("wb") as stream,
            encrypting(stream, [*recipients, identity.to_public()]) as plain,
            writing_archive(plain) as archive,
        ):
            excluded = contents.separately_copied(settings)
            writer = _BackupWriter(settings, archive, scratch, report, excluded)
            writer.write(format_time(started), store_format, with_keys=with_keys)
        checked = verify_backup(
            staged, settings, identities=[identity], scratch=scratch, report=report
        )
    return CreatedBackup(target, checked)


def _require_usable_paths(target: Path, settings: Settings, *, force: bool) -> None:
    records = contents.records_root(settings)
    if contents.relative_path(records, settings.home) is not None:
        raise ConfigError(
            f"{records} contains more than the prediction log: the volume.",
            "Let BC_RECORDS_DIR name a folder of its own.",
            setting="BC_RECORDS_DIR",
        )
    if target.exists() and not force:
        raise ConfigError(
            f"{target} exists already.", "Give another name, or --force.", setting="target"
        )
    if target.resolve().is_relative_to(settings.home.resolve()):
        raise ConfigError(
            f"{target} is on the volume itself.",
            "Keep backups elsewhere, best on another machine.",
            setting="target",
        )


@contextmanager
def _open_scratch(home: Path) -> Iterator[Path]:
    """A private folder on the volume; its lock lets one backup run at a time."""
    with locked(home / ".backup.lock"):
        for abandoned in home.glob(f"{_SCRATCH}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        # Named first: a signal may raise as soon as the folder is there.
        folder = home / f"{_SCRATCH}{secrets.token_hex(4)}"
        try:
            folder.mkdir(0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _BackupWriter:
    """Adds the files to an archive, in the order that the module's docstring gives."""

    settings: Settings
    archive: ArchiveWriter
    scratch: Path
    report: ProgressCallback
    excluded: frozenset[Path]
    left_out: list[str] = field(default_factory=list)
    databases: dict[str, str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    def write(self, created_at: str, store_format: int, *, with_keys: bool) -> None:
        home = self.settings.home
        self._list_secrets_elsewhere()
        self._list_unused_log()
        if with_keys:
            self._add_tree(home / contents.KEYS)
        root = contents.records_root(self.settings)
        for problem in sorted({self.settings.service_problem, *contents.list_folders(root)}):
            self._add_prediction_log(problem, root / problem)
        for name in (contents.AIRFLOW_DATABASE, contents.MLFLOW_DATABASE):
            if (home / name).is_file():
                self._add_sqlite(f"home/{name}", home / name)
        logs = {path.stem for path in (home / contents.AUDIT).glob("*.jsonl")}
        for problem in sorted(logs.union(contents.list_folders(home / contents.MODELS))):
            self._add_models(Store.of(self.settings, problem))
        for area in contents.list_areas(home):
            self._add_tree(area)
        key = self.settings.verify_key
        manifest = BackupManifest(
            package_version=__version__,
            store_format=store_format,
            created_at=created_at,
            with_keys=with_keys,
            verify_key=key.read_text() if key.is_file() else "",
            generations=self.generations,
            databases=self.databases,
            left_out=tuple(self.left_out),
            entries=tuple(self.archive.entries),
        )
        self.archive.finish(manifest)

    def _add(self, name: str, path: Path) -> None:
        self.report(f"{printable_name(name)} ({self.archive.bytes >> 20} MiB so far)", None)
        try:
            self.archive.add(name, path)
        except FileNotFoundError:
            # It was moved or removed after it was listed. Where another file refers to it, the
            # check of the backup fails.
            return
        except UnicodeEncodeError:
            self.left_out.append(f"{printable_name(str(path))}: its name is not text")

    def _add_files(self, prefix: str, folder: Path, paths: Iterable[Path]) -> None:
        for path in paths:
            self._add(f"{prefix}/{path.relative_to(folder).as_posix()}", path)

    def _add_tree(self, top: Path) -> None:
        paths = contents.iterate_files(top, self.left_out, self.excluded)
        self._add_files("home", self.settings.home, paths)

    def _add_prediction_log(self, problem: str, folder: Path) -> None:
        prefix = f"{contents.RECORDS}/{problem}"
        self._add_files(prefix, folder, sorted(folder.glob("[!.]*.json")))
        self._add_files(prefix, folder, segments.list_segments(segments.spool_folder(folder)))
        quarantine = contents.iterate_files(segments.quarantine_folder(folder), self.left_out)
        self._add_files(prefix, folder, quarantine)
        if self.settings.records_url is None:
            has_database = (folder / FILE_NAME).is_file()
        else:
            served = problem == self.settings.service_problem
            has_database = served or database_file(self.settings) is None
        if has_database:
            settings = self.settings.model_copy(update={"service_problem": problem})
            self._add_records_database(f"{prefix}/{FILE_NAME}", settings)

    def _add_records_database(self, name: str, settings: Settings) -> None:
        """The records database as one SQLite file, of whichever kind it is."""
        copy = self.scratch / "records.sqlite"
        origin = copy_database(settings, copy, lambda share: self._report_copy(name, share))
        if origin is not None:
            self._add_copy(name, copy, origin)

    def _add_sqlite(self, name: str, path: Path) -> None:
        copy = self.scratch / path.name
        copy_sqlite(path, copy, lambda share: self._report_copy(name, share))
        self._add_copy(name, copy, "sqlite")

    def _report_copy(self, name: str, share: float | None) -> None:
        self.report(f"copying {name}", share)

    def _add_copy(self, name: str, copy: Path, origin: str) -> None:
        self.databases[name] = origin
        self._add(name, copy)
        copy.unlink()

    def _add_models(self, store: Store) -> None:
        """Registry and audit log as of one moment, and then the files that they refer to."""
        with locked(store.registry_lock):
            self.generations[store.problem] = read_unsigned_registry(store).generation
            # The check of the backup verifies the registry's signature.
            signatures = sorted(store.registry.parent.glob(f"{store.registry.name}.*.sig"))
            paths = (store.registry, store.audit, *signatures)
            copies = [self._copy_to_scratch(path) for path in paths]
            if copies[1] is not None:
                _remove_partial_line(copies[1])
        for path, copy in zip(paths, copies, strict=True):
            if copy is not None:
                self._add(f"home/{path.relative_to(self.settings.home).as_posix()}", copy)
                copy.unlink()
        for version in list_versions(store):
            self._add_tree(store.version(version))
        for folder in contents.list_folders(store.models):
            if store.models / folder != store.versions:
                self._add_tree(store.models / folder)

    def _copy_to_scratch(self, path: Path) -> Path | None:
        """A copy; None where there is no such file."""
        copy = make_directory(self.scratch / "pair") / path.name
        try:
            shutil.copy2(path, copy)
        except FileNotFoundError:
            return None
        return copy

    def _list_secrets_elsewhere(self) -> None:
        """List the secrets outside of `keys/`, so that people know to back them up."""
        for name in contents.SECRETS:
            path = getattr(self.settings, name)
            if path is not None and not path.is_relative_to(self.settings.home / contents.KEYS):
                self.left_out.append(f"{path}: kept elsewhere (BC_{name.upper()})")

    def _list_unused_log(self) -> None:
        """List a `records/` on the volume whose place in the backup belongs to another log."""
        unused = self.settings.home / contents.RECORDS
        if unused not in self.excluded and any(contents.iterate_files(unused, [], self.excluded)):
            self.left_out.append(f"{unused}: not the log that BC_RECORDS_DIR names")


def _remove_partial_line(log: Path) -> None:
    """Remove what a crash left of a last line, which was never acknowledged."""
    data = log.read_bytes()
    if not data.endswith(b"\n"):
        os.truncate(log, data.rfind(b"\n") + 1)
