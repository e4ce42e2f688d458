"""What of a volume belongs into a backup, and under which names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bc_pipeline.records.transfer import database_file
from bc_pipeline.settings import Settings

# Of the volume, by the folder they stand in; their names in a backup begin with `home/`.
KEYS, AUDIT, MODELS, RECORDS = "keys", "audit", "models", "records"
# What belongs to processes that run, and logs.
_NEVER = frozenset({"logs", "stack"})
# Of the embedded Airflow only its database: it makes the rest when it starts.
AIRFLOW_DATABASE = "airflow/airflow.db"
MLFLOW_DATABASE = "mlflow/mlflow.db"
_SQLITE_PARTS = ("-wal", "-shm", "-journal")
# Settings that name secrets; where one stands elsewhere, it is kept elsewhere.
SECRETS = (
    "signing_key_file",
    "verify_key_file",
    "api_key_file",
    "airflow_password_file",
    "service_keys_file",
    "records_key_file",
    "artifact_key_file",
    "tls_key_file",
    "backup_key_file",
    "backup_passphrase_file",
)


def records_root(settings: Settings) -> Path:
    """Folder with the prediction logs of all problems."""
    return settings.records_dir or settings.home / RECORDS


def place_below(top: Path, path: Path) -> Path | None:
    """A path relative to a folder that it stands in, also through links; None where it does not."""
    for above, below in ((top, path), (top.resolve(), path.resolve())):
        if below.is_relative_to(above):
            return below.relative_to(above)
    return None


def copied_otherwise(settings: Settings) -> frozenset[Path]:
    """What stands on the volume and is no file like others: the log, and a database in a file."""
    paths = (records_root(settings), database_file(settings))
    places = (place_below(settings.home, path) for path in paths if path is not None)
    return frozenset(settings.home / place for place in places if place is not None)


def folders_below(path: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out; none where it is missing."""
    try:
        return sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError:
        return []


def areas(home: Path) -> Iterator[Path]:
    """What stands directly on the volume and may be copied as it is, file by file."""
    apart = _NEVER | {KEYS, AUDIT, MODELS, RECORDS, "airflow"}
    for entry in sorted(os.scandir(home), key=lambda entry: entry.name):
        if not entry.name.startswith(".") and entry.name not in apart:
            yield Path(entry.path)


def files_below(
    top: Path, left_out: list[str], apart: frozenset[Path] = frozenset()
) -> Iterator[Path]:
    """Regular files at or below a path, hidden ones left out: they are locks or unfinished.

    In each folder records come first, and are looked for first: a record is written after
    what it describes, so whatever it describes is found then.

    Parameters
    ----------
    left_out : list of str
        Links and other things that are no files are added, by name.
    apart : frozenset of Path
        Files and folders that are passed over.
    """
    if top in apart:
        return
    if top.is_symlink() and not top.is_dir():
        left_out.append(f"{top}: no regular file")
        return
    if top.is_file():
        yield top
        return
    for folder, folders, _ in os.walk(top, onerror=_unless_gone):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(folder, name) not in apart
        )
        links = [Path(folder) / name for name in folders if (Path(folder) / name).is_symlink()]
        left_out.extend(f"{path}: a link" for path in links)
        records = {name for name in _listed(folder) if name.endswith(".json")}
        others = {name for name in _listed(folder) if not name.endswith(".json")}
        for name in [*sorted(records), *sorted(others)]:
            path = Path(folder) / name
            if path.is_symlink() or (path.exists() and not path.is_file()):
                left_out.append(f"{path}: no regular file")
            elif not name.endswith(_SQLITE_PARTS) and path not in apart:
                yield path


def _unless_gone(error: OSError) -> None:
    """What may not be read would be missing without anybody knowing."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _listed(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
