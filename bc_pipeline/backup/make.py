"""Taking a backup, while everything runs.

The order makes it consistent. What is copied first may be older than what it points to, never
newer:

- the service's memory of the generation that it served, then the registry: the generation
  guard takes a registry that is as new or newer;
- the prediction log, then its quarantine and its database: a record goes from the log to one of
  these, so it is in at least one of the copies; where it is in both, the drainer inserts it, or
  sets it aside, once. How far the log is drained is left out, which means: not at all;
- registry and audit log together under the registry's lock, then the versions, then the data:
  each names only what was there before it.

The file is read back and checked as a whole before it gets its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bc_pipeline import __version__
from bc_pipeline.artifacts.files import locked, make_directory
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import require_not_newer
from bc_pipeline.artifacts.versions import list_versions, read_registry
from bc_pipeline.backup import contents
from bc_pipeline.backup.archive import ArchiveWriter, Manifest
from bc_pipeline.backup.keys import BackupKeys
from bc_pipeline.backup.stream import SealingStream
from bc_pipeline.backup.unfinished import SUFFIX, remove_unfinished, unfinished_file
from bc_pipeline.backup.verify import Checked, Tell, silent, verify_backup
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import ConfigError, NotStored
from bc_pipeline.records import segments
from bc_pipeline.records.database import FILE_NAME
from bc_pipeline.records.transfer import copy_sqlite, database_file, snapshot
from bc_pipeline.settings import Settings

_SCRATCH = ".backup-"


@dataclass(frozen=True)
class Made:
    """A backup that was written and checked; `size` is that of the file, in bytes."""

    path: Path
    size: int
    checked: Checked


def make_backup(
    settings: Settings,
    target: Path,
    *,
    with_keys: bool = True,
    force: bool = False,
    tell: Tell = silent,
) -> Made:
    """Write a backup, and check it before it gets its name.

    Parameters
    ----------
    target : Path
        A file, or a folder in which one is made that is named by the time.
    with_keys : bool
        False where the volume's keys are kept elsewhere.
    force : bool
        Replace a file that is there.
    tell : callable
        Is given what is being done, and the share of it that is, where that is known.

    Raises
    ------
    ConfigError
        Where no key for backups is set, or the file is there already.
    NotStored
        Where there is no volume.
    BackupInvalid
        Where something on the volume is damaged: everything that is, by name.
    RecordsAway, TransientError, StoreUnfit
    """
    if not settings.home.is_dir():
        raise NotStored(f"There is no volume in {settings.home}.", "Let BC_HOME name it.")
    store_format = require_not_newer(settings.home)
    keys = BackupKeys.of(settings)
    began = now()
    if target.is_dir():
        target = target / f"bc-pipeline-{began:%Y%m%dT%H%M%SZ}{SUFFIX}"
    if contents.place_below(contents.records_root(settings), settings.home) is not None:
        raise ConfigError(
            f"{contents.records_root(settings)} holds more than the prediction log: the volume.",
            "Let BC_RECORDS_DIR name a folder of its own.",
            setting="BC_RECORDS_DIR",
        )
    _require_free(target, settings, force=force)
    remove_unfinished(target)
    with _scratch(settings.home) as scratch, unfinished_file(target) as staged:
        with staged.open("wb") as stream:
            sealing = SealingStream(stream, keys)
            apart = contents.copied_otherwise(settings)
            backup = _Backup(settings, ArchiveWriter(sealing), scratch, tell, apart)
            backup.write(format_time(began), store_format, with_keys=with_keys)
        checked = verify_backup(staged, settings, room=scratch, tell=tell)
        size = staged.stat().st_size
    return Made(target, size, checked)


def _require_free(target: Path, settings: Settings, *, force: bool) -> None:
    if target.exists() and not force:
        raise ConfigError(
            f"{target} is there already.", "Give another name, or --force.", setting="target"
        )
    if target.resolve().is_relative_to(settings.home.resolve()):
        raise ConfigError(
            f"{target} lies on the volume itself.",
            "Keep backups elsewhere, best on another machine.",
            setting="target",
        )


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A private folder on the volume, where the same bytes stand anyway; one backup at a time."""
    with locked(home / ".backup.lock"):
        # What a backup that was killed has left.
        for left in home.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=home))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Backup:
    """Writes the entries, in the order that the first lines of this file give."""

    settings: Settings
    archive: ArchiveWriter
    scratch: Path
    tell: Tell
    apart: frozenset[Path]
    left_out: list[str] = field(default_factory=list)
    databases: dict[str, str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    def write(self, created_at: str, store_format: int, *, with_keys: bool) -> None:
        home = self.settings.home
        self._note_keys_elsewhere()
        self._note_former_log()
        if with_keys:
            self._add_tree(home / contents.KEYS)
        root = contents.records_root(self.settings)
        for problem in sorted({self.settings.service_problem, *contents.folders_below(root)}):
            self._add_records(problem, root / problem)
        for name in (contents.AIRFLOW_DATABASE, contents.MLFLOW_DATABASE):
            if (home / name).is_file():
                self._add_sqlite(f"home/{name}", home / name)
        logs = {path.stem for path in (home / contents.AUDIT).glob("*.jsonl")}
        for problem in sorted(logs.union(contents.folders_below(home / contents.MODELS))):
            self._add_models(Store(home, problem))
        for area in contents.areas(home):
            self._add_tree(area)
        key = self.settings.verify_key
        manifest = Manifest(
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
        self.tell(f"{name} ({self.archive.bytes >> 20} MiB so far)", None)
        try:
            self.archive.add(name, path)
        except FileNotFoundError:
            # Moved or removed since it was listed. Where something else needs it, the check
            # of the whole tells.
            return
        except UnicodeEncodeError:
            self.left_out.append(f"{path!a}: its name is no text")

    def _add_tree(self, top: Path) -> None:
        for path in contents.files_below(top, self.left_out, self.apart):
            name = path.relative_to(self.settings.home).as_posix()
            if name != contents.MLFLOW_DATABASE:
                self._add(f"home/{name}", path)

    def _add_records(self, problem: str, folder: Path) -> None:
        settings = self.settings.model_copy(update={"service_problem": problem})
        for path in sorted(folder.glob("[!.]*.json")):
            self._add(f"records/{problem}/{path.name}", path)
        for path in segments.listed(segments.spool_folder(folder)):
            self._add(f"records/{problem}/{path.relative_to(folder).as_posix()}", path)
        for path in contents.files_below(segments.quarantine_folder(folder), self.left_out):
            self._add(f"records/{problem}/{path.relative_to(folder).as_posix()}", path)
        served = problem == self.settings.service_problem
        if self.settings.records_url is None:
            if (folder / FILE_NAME).is_file():
                self._add_database(settings)
        elif served or database_file(self.settings) is None:
            self._add_database(settings)

    def _add_database(self, settings: Settings) -> None:
        """The records database as one SQLite file, whatever it is."""
        name = f"{contents.RECORDS}/{settings.service_problem}/{FILE_NAME}"
        copy = self.scratch / "records.sqlite"
        origin = snapshot(settings, copy, lambda share: self.tell(f"copying {name}", share))
        if origin is not None:
            self.databases[name] = origin
            self._add(name, copy)
            copy.unlink()

    def _add_sqlite(self, name: str, path: Path) -> None:
        copy = self.scratch / path.name
        copy_sqlite(path, copy, lambda share: self.tell(f"copying {name}", share))
        self.databases[name] = "sqlite"
        self._add(name, copy)
        copy.unlink()

    def _add_models(self, store: Store) -> None:
        """Registry and audit log as of one moment, and then all that they may name."""
        with locked(store.registry_lock):
            self.generations[store.problem] = read_registry(store).generation
            copies = [self._copied(path) for path in (store.registry, store.audit)]
            if copies[1] is not None:
                _end_with_a_line(copies[1])
        for path, copy in zip((store.registry, store.audit), copies, strict=True):
            if copy is not None:
                self._add(f"home/{path.relative_to(self.settings.home).as_posix()}", copy)
                copy.unlink()
        for version in list_versions(store):
            self._add_tree(store.version(version))
        for folder in contents.folders_below(store.models):
            if store.models / folder != store.versions:
                self._add_tree(store.models / folder)

    def _copied(self, path: Path) -> Path | None:
        """A copy; None where there is no such file."""
        copy = make_directory(self.scratch / "pair") / path.name
        try:
            shutil.copy2(path, copy)
        except FileNotFoundError:
            return None
        return copy

    def _note_keys_elsewhere(self) -> None:
        """Secrets that settings name are kept where they are; people should know which."""
        for name in contents.SECRETS:
            path = getattr(self.settings, name)
            if path is not None and not path.is_relative_to(self.settings.home / contents.KEYS):
                self.left_out.append(f"{path}: kept elsewhere (BC_{name.upper()})")

    def _note_former_log(self) -> None:
        """Its names in a backup are those of the log that is in use."""
        former = self.settings.home / contents.RECORDS
        if former not in self.apart and any(contents.files_below(former, [], self.apart)):
            self.left_out.append(f"{former}: not the log that BC_RECORDS_DIR names")


def _end_with_a_line(log: Path) -> None:
    """Leave out what a crash left of a line: it was never acknowledged."""
    data = log.read_bytes()
    if not data.endswith(b"\n"):
        os.truncate(log, data.rfind(b"\n") + 1)
