"""A volume worth a backup, and the key to make one with."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bc_pipeline.artifacts.files import sha256_bytes, sha256_file
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import MANIFEST, read_registry
from bc_pipeline.promotion import transition
from bc_pipeline.records.database import open_database
from bc_pipeline.records.drain import Drainer
from bc_pipeline.records.entry import Entry, new_id, time_of
from bc_pipeline.records.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.records.spool import Spool
from bc_pipeline.settings import Settings
from tests.conftest import Fitted, Releases, pointer_to


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "backup.key"
    path.write_text(os.urandom(32).hex())
    return path


@pytest.fixture
def settings(clean_environment: None, key_file: Path) -> Settings:
    return Settings(backup_key_file=key_file)


def promote(store: Store, version: str) -> None:
    """Make a version the champion, with the writes of a real release."""
    pointer = pointer_to(version, sha256_file(store.version(version) / MANIFEST))
    transition.release(store, read_registry(store), "promotion", pointer, "test", "r")


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def an_entry() -> Entry:
    made = new_id()
    values = bytes(240)
    return Entry(
        made, time_of(made), "v0", "ab" * 32, 0.7, True, 0.001, "w", "/predict", values, None
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
    put(store.landing / "week 1.csv", b"rows\n")
    os.utime(store.landing / "week 1.csv", (1_700_000_000, 1_700_000_000))
    put(store.batches / "b1.parquet", b"parquet")
    put(store.batches / "b1.json", b'{"parquet_sha256": "%s"}' % sha256_bytes(b"parquet").encode())
    put(home / "logs" / "service.log", b"a line\n")
    put(home / "stack" / "state.json", b"{}")
    put(home / "mlflow" / "artifacts" / "1" / "MLmodel", b"model")
    mlflow = sqlite3.connect(home / "mlflow" / "mlflow.db")
    mlflow.execute("CREATE TABLE runs (name)")
    mlflow.execute("INSERT INTO runs VALUES ('first')")
    mlflow.commit()
    mlflow.close()
    spool = Spool.open(settings, "worker-0")
    spool.append([an_entry() for _ in range(3)])
    spool.close()
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    spool = Spool.open(settings, "worker-1")
    spool.append([an_entry()])
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
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def elsewhere(volume: Settings, **changes: object) -> Settings:
    """Settings of a new machine."""
    home = volume.home.with_name("new")
    return volume.model_copy(update={"home": home} | changes)


def visible(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
