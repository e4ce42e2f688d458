"""Which files of a volume are included in a backup, and under which names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bc_pipeline.prediction_log.database_copy import database_file
from bc_pipeline.settings import Settings
from bc_pipeline.tables.file_names import printable_name

# Folders on the volume; their names in a backup begin with `home/`.
KEYS, AUDIT, MODELS, RECORDS = "keys", "audit", "models", "records"
# Logs, and state of running processes.
_EXCLUDED = frozenset({"logs", "stack"})
# The embedded Airflow generates its other files when it starts.
AIRFLOW_DATABASE = "airflow/airflow.db"
MLFLOW_DATABASE = "mlflow/mlflow.db"
_SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")
# Settings that name files with secrets, which are included only where they stand in `keys/`.
SECRETS = tuple(
    name for name in Settings.model_fields if name.endswith("_file") and name != "tls_cert_file"
)


def records_root(settings: Settings) -> Path:
    """Folder with the prediction logs of all problems."""
    return settings.records_dir or settings.home / RECORDS


def relative_path(folder: Path, path: Path) -> Path | None:
    """A path relative to a folder, also through links; None where it is outside of the folder."""
    for start, target in ((folder, path), (folder.resolve(), path.resolve())):
        if target.is_relative_to(start):
            return target.relative_to(start)
    return None


def separately_copied(settings: Settings) -> frozenset[Path]:
    """Paths on the volume that are not copied file by file: the log, and databases in files."""
    paths = (records_root(settings), database_file(settings), settings.home / MLFLOW_DATABASE)
    relative = (relative_path(settings.home, path) for path in paths if path is not None)
    return frozenset(settings.home / path for path in relative if path is not None)


def _list_entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Entries of a folder by name, hidden ones left out; none where it is missing."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    return sorted(visible, key=lambda entry: entry.name)


def list_folders(path: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out; none where it is missing."""
    return [entry.name for entry in _list_entries(path) if entry.is_dir()]


def list_areas(home: Path) -> Iterator[Path]:
    """Files and folders directly on the volume that may be copied file by file."""
    excluded = _EXCLUDED | {KEYS, AUDIT, MODELS, RECORDS, "airflow"}
    for entry in _list_entries(home):
        if entry.name not in excluded:
            yield Path(entry.path)


def iterate_files(
    top: Path, left_out: list[str], excluded: frozenset[Path] = frozenset()
) -> Iterator[Path]:
    """Regular files at or below a path, without hidden ones: those are locks or unfinished.

    In each folder JSON documents come first, and are listed first: a document is written after
    the files that it describes, so the listing that follows contains these.

    Parameters
    ----------
    left_out : list of str
        The names of links and other entries that are no regular files are appended.
    excluded : frozenset of Path
        Files and folders to skip.
    """
    if top in excluded:
        return
    if top.is_symlink() and not top.is_dir():
        left_out.append(f"{printable_name(str(top))}: no regular file")
        return
    if top.is_file():
        yield top
        return
    for folder, folders, _ in os.walk(top, onerror=_raise_unless_missing):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and Path(folder, name) not in excluded
        )
        links = (path for name in folders if (path := Path(folder, name)).is_symlink())
        left_out.extend(f"{printable_name(str(path))}: a link" for path in links)
        documents = [name for name in _list_names(folder) if name.endswith(".json")]
        others = [name for name in _list_names(folder) if not name.endswith(".json")]
        for name in documents + others:
            path = Path(folder, name)
            if path.is_symlink() or (path.exists() and not path.is_file()):
                left_out.append(f"{printable_name(str(path))}: no regular file")
            elif not name.endswith(_SQLITE_SUFFIXES) and path not in excluded:
                yield path


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be read fails the backup, which would be incomplete without it."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _list_names(folder: str) -> list[str]:
    entries = _list_entries(folder)
    return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
