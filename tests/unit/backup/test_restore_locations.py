"""Restores into folders, mounts and databases as settings may name them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bc_pipeline.artifacts.store import Store
from bc_pipeline.backup.create import create_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.errors import ConfigError, RecordsAway
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from tests.postgres import Postgres
from tests.unit.backup.conftest import new_machine, recorded_ids, visible_files, write_file


def test_records_may_be_in_a_folder_of_their_own(
    volume: Settings, backups: Path, tmp_path: Path
) -> None:
    apart = tmp_path / "apart"
    (volume.home / "records").rename(apart)
    moved = volume.model_copy(update={"records_dir": apart})
    ids = recorded_ids(moved)
    created = create_backup(moved, backups)
    new = new_machine(volume, records_dir=tmp_path / "new-records")
    restore_backup(new, created.path)
    assert recorded_ids(new) == ids
    assert not (new.home / "records").exists()
    assert not (tmp_path / "new-records" / ".restore").exists()
    with pytest.raises(ConfigError, match="new-records is not empty"):
        restore_backup(new.model_copy(update={"home": tmp_path / "third"}), created.path)


@pytest.mark.parametrize("spelled", ["plain", "through a link"])
def test_records_may_be_elsewhere_on_the_volume(
    volume: Settings, backups: Path, tmp_path: Path, spelled: str
) -> None:
    """They are copied as a log and its database, not again as files of the volume."""
    (volume.home / "records").rename(volume.home / "answers")
    ids = recorded_ids(volume.model_copy(update={"records_dir": volume.home / "answers"}))
    for home in (volume.home, volume.home.with_name("new")):
        home.with_suffix(".link").symlink_to(home)

    def settings_of(home: Path) -> Settings:
        named = home if spelled == "plain" else home.with_suffix(".link")
        return volume.model_copy(update={"home": home, "records_dir": named / "answers"})

    created = create_backup(settings_of(volume.home), backups)
    assert not [e for e in created.checked.manifest.entries if e.name.startswith("home/answers")]
    new = settings_of(volume.home.with_name("new"))
    assert restore_backup(new, created.path).set_aside == ()
    drainer = Drainer(new, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    open_database(new).close()
    assert set(ids) < set(recorded_ids(new))
    assert len(recorded_ids(new)) == len(ids) + 1


@pytest.mark.parametrize("location", ["all.sqlite", "records/all.sqlite", "other/all.sqlite"])
def test_the_database_may_be_on_the_volume(volume: Settings, backups: Path, location: str) -> None:
    """It is loaded before files are moved into place, and must not be set aside by that."""
    created = create_backup(volume, backups / "first")
    ids = recorded_ids(volume)
    new = new_machine(volume)
    named = new.model_copy(update={"records_url": SecretStr(f"sqlite:///{new.home / location}")})
    (new.home / location).parent.mkdir(parents=True, exist_ok=True)
    assert restore_backup(named, created.path).database == "sqlite"
    assert find_prediction(named, ids[0]).id == ids[0]
    again = create_backup(named, backups / "second")
    assert not [e for e in again.checked.manifest.entries if e.name == f"home/{location}"]
    with pytest.raises(ConfigError, match="BC_RECORDS_URL"):
        restore_backup(named, again.path, replace=True)
    assert find_prediction(named, ids[0]).id == ids[0]
    open_database(named).close()


def test_records_may_go_into_another_database_and_back(
    volume: Settings, backups: Path, postgres: Postgres, tmp_path: Path
) -> None:
    """SQLite to PostgreSQL and from there to SQLite, with what waits in the log."""
    ids = recorded_ids(volume)
    created = create_backup(volume, backups / "sqlite")
    server = new_machine(volume, records_url=SecretStr(postgres.emptied()))
    assert restore_backup(server, created.path).database == "postgresql"
    assert list(server.records.glob("predictions*")) == []
    drainer = Drainer(server, threading.Event())
    assert drainer.run(once=True)
    drainer.close()

    again = create_backup(server, backups / "postgresql")
    assert again.checked.manifest.databases["records/wdbc/predictions.sqlite"] == "postgresql 0001"
    assert b"canary" not in again.path.read_bytes()
    third = volume.model_copy(update={"home": tmp_path / "third"})
    assert restore_backup(third, again.path).database == "file"
    assert set(ids) < set(recorded_ids(third))
    assert len(recorded_ids(third)) == len(ids) + 1
    outcome = find_prediction(third, ids[0]).outcome
    assert outcome is not None
    open_database(third).close()
    open_database(server).close()


def test_a_database_that_is_not_empty_is_not_changed(
    volume: Settings, backups: Path, postgres: Postgres, tmp_path: Path
) -> None:
    created = create_backup(volume, backups / "b")
    url = SecretStr(postgres.emptied())
    restore_backup(new_machine(volume, records_url=url), created.path)
    other = volume.model_copy(update={"home": tmp_path / "third", "records_url": url})
    with pytest.raises(ConfigError, match="holds records already"):
        restore_backup(other, created.path)
    assert visible_files(other.home) == set()
    assert not (other.home / ".restore").exists()
    elsewhere = other.model_copy(
        update={"records_url": SecretStr(f"postgresql://bc:canary@/bc?host={tmp_path}")}
    )
    with pytest.raises(RecordsAway) as caught:
        restore_backup(elsewhere, created.path)
    assert "canary" not in str(caught.value)
    assert visible_files(other.home) == set()


def test_existing_empty_folders_are_filled(volume: Settings, backups: Path) -> None:
    """A prepared deployment has empty folders and lock files."""
    created = create_backup(volume, backups / "b")
    new = new_machine(volume)
    for name in ("data/wdbc/landing", "models/wdbc/versions", "records/wdbc", "keys"):
        (new.home / name).mkdir(parents=True)
    write_file(new.home / "models" / "wdbc" / ".registry.lock", b"")
    assert restore_backup(new, created.path).set_aside == ()
    assert audit.verify(Store(new.home, "wdbc")).lines == 2
    assert create_backup(new, backups / "again").checked.counts == created.checked.counts


def test_mounts_on_the_volume_are_filled_and_emptied(
    volume: Settings, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename onto, of or across a mount fails with the errors of the system."""
    created = create_backup(volume, backups / "b")
    new = new_machine(volume)
    mounts = [new.home / "records", new.home / "data" / "wdbc" / "landing"]
    for mount in mounts:
        mount.mkdir(parents=True)
    device = {mount: number for number, mount in enumerate(mounts, start=1)}
    rename, rmdir = os.rename, os.rmdir

    def device_of(path: Path) -> int:
        return next((n for mount, n in device.items() if mount in (path, *path.parents)), 0)

    def guarded_rename(source: Any, target: Any, **_: Any) -> None:
        first, second = Path(source), Path(target)
        if any(mount == first or first in mount.parents for mount in mounts):
            raise OSError(errno.EBUSY, "a mount")
        if device_of(first) != device_of(second.parent):
            raise OSError(errno.EXDEV, "another device")
        rename(source, target)

    def guarded_rmdir(path: Any, **named: Any) -> None:
        if any(Path(str(path)) == mount for mount in mounts):
            raise OSError(errno.EBUSY, "a mount")
        rmdir(path, **named)

    monkeypatch.setattr(os, "rename", guarded_rename)
    monkeypatch.setattr(os, "rmdir", guarded_rmdir)
    restore_backup(new, created.path)
    assert (new.home / "data/wdbc/landing/week 1.csv").stat().st_mtime == 1_700_000_000
    assert recorded_ids(new) == recorded_ids(volume)
    done = restore_backup(new, created.path, replace=True)
    assert (done.set_aside[0] / "data/wdbc/landing/week 1.csv").exists()
    assert all(mount.is_dir() for mount in mounts)
    assert create_backup(new, backups / "again").checked.counts == created.checked.counts
