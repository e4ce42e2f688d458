"""A volume with content, and the keys of backups."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bc_pipeline.artifacts.files import sha256_bytes, sha256_file
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import MANIFEST
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, id_time, new_id
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.promotion import transition
from bc_pipeline.settings import Settings
from tests.conftest import Fitted, Releases, pointer_to
from tests.unit.backup.age_keys import make_key, recipient_of


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "backup.key"
    make_key(path)
    return path


@pytest.fixture
def settings(clean_environment: None, key_file: Path) -> Settings:
    return Settings(backup_recipients=(recipient_of(key_file),), backup_key_file=key_file)


def promote(store: Store, version: str) -> None:
    """Make a version the champion, with the writes of a real release."""
    pointer = pointer_to(version, sha256_file(store.version(version) / MANIFEST))
    transition.release(store, read_registry(store), "promotion", pointer, "test", "r")


def write_file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make_entry() -> LogEntry:
    entry_id = new_id()
    values = bytes(240)
    return LogEntry(
        entry_id,
        id_time(entry_id),
        "v0",
        "ab" * 32,
        0.7,
        True,
        0.001,
        "w",
        "/predict",
        values,
        None,
    )


@pytest.fixture
def volume(
    settings: Settings, releases: Releases, fitted: tuple[Fitted, ...]
) -> Iterator[Settings]:
    """Two versions, the first promoted; data, MLflow, logs; records in log and database."""
    home, store = settings.home, releases.store
    for number in range(2):
        releases.publish(f"v{number}", fitted[number])
    promote(store, "v0")
    write_file(store.landing / "week 1.csv", b"rows\n")
    os.utime(store.landing / "week 1.csv", (1_700_000_000, 1_700_000_000))
    write_file(store.batches / "b1.parquet", b"parquet")
    write_signed(
        store,
        store.batches / "b1.json",
        b'{"parquet_sha256": "%s"}' % sha256_bytes(b"parquet").encode(),
    )
    write_file(home / "logs" / "service.log", b"a line\n")
    write_file(home / "stack" / "state.json", b"{}")
    write_file(home / "mlflow" / "artifacts" / "1" / "MLmodel", b"model")
    mlflow = sqlite3.connect(home / "mlflow" / "mlflow.db")
    mlflow.execute("CREATE TABLE runs (name)")
    mlflow.execute("INSERT INTO runs VALUES ('first')")
    mlflow.commit()
    mlflow.close()
    spool = Spool.open(settings, "worker-0")
    spool.append([make_entry() for _ in range(3)])
    spool.close()
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    spool = Spool.open(settings, "worker-1")
    spool.append([make_entry()])
    spool.close()
    drained = recorded_ids(settings)[0]
    record_outcomes(settings, [OutcomeReport(drained, True, "lab")], releases.problem.labels)
    open_database(settings).close()
    yield settings
    open_database(settings).close()


def recorded_ids(settings: Settings) -> list[str]:
    """Ids in the SQLite database of a volume."""
    database = sqlite3.connect(settings.records / "predictions.sqlite")
    try:
        return [row[0] for row in database.execute("SELECT id FROM predictions ORDER BY id")]
    finally:
        database.close()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


def new_machine(volume: Settings, **changes: object) -> Settings:
    """Settings of another machine, with an empty volume."""
    home = volume.home.with_name("new")
    return volume.model_copy(update={"home": home} | changes)


def visible_files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
