"""Where a restore puts things: folders, mounts and databases, as they may be set."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bc_pipeline.artifacts.store import Store
from bc_pipeline.backup.make import make_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.errors import (
    ConfigError,
    RecordsAway,
)
from bc_pipeline.promotion import audit
from bc_pipeline.records.database import open_database
from bc_pipeline.records.drain import Drainer
from bc_pipeline.records.predictions import find_prediction
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import elsewhere, put, recorded_ids, visible
from tests.unit.records.postgres import Postgres


def test_records_may_stand_in_a_folder_of_their_own(
    volume: Settings, shelf: Path, tmp_path: Path
) -> None:
    apart = tmp_path / "apart"
    (volume.home / "records").rename(apart)
    moved = volume.model_copy(update={"records_dir": apart})
    ids = recorded_ids(moved)
    made = make_backup(moved, shelf)
    new = elsewhere(volume, records_dir=tmp_path / "new-records")
    restore_backup(new, made.path)
    assert recorded_ids(new) == ids
    assert not (new.home / "records").exists()
    assert not (tmp_path / "new-records" / ".restore").exists()
    with pytest.raises(ConfigError, match="new-records is not empty"):
        restore_backup(new.model_copy(update={"home": tmp_path / "third"}), made.path)


@pytest.mark.parametrize("spelled", ["plain", "through a link"])
def test_records_may_stand_elsewhere_on_the_volume(
    volume: Settings, shelf: Path, tmp_path: Path, spelled: str
) -> None:
    """They are the log and a copy of its database, not files like others, and are moved once."""
    (volume.home / "records").rename(volume.home / "answers")
    ids = recorded_ids(volume.model_copy(update={"records_dir": volume.home / "answers"}))
    for home in (volume.home, volume.home.with_name("new")):
        home.with_suffix(".link").symlink_to(home)

    def settings_of(home: Path) -> Settings:
        named = home if spelled == "plain" else home.with_suffix(".link")
        return volume.model_copy(update={"home": home, "records_dir": named / "answers"})

    made = make_backup(settings_of(volume.home), shelf)
    assert not [e for e in made.checked.manifest.entries if e.name.startswith("home/answers")]
    new = settings_of(volume.home.with_name("new"))
    assert restore_backup(new, made.path).set_aside == ()
    drainer = Drainer(new, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    open_database(new).close()
    assert set(ids) < set(recorded_ids(new))
    assert len(recorded_ids(new)) == len(ids) + 1


@pytest.mark.parametrize("place", ["all.sqlite", "records/all.sqlite", "kept/all.sqlite"])
def test_the_database_that_is_named_may_stand_on_the_volume(
    volume: Settings, shelf: Path, place: str
) -> None:
    """It is loaded before files are put in place, and must not be set aside by that."""
    made = make_backup(volume, shelf / "first")
    ids = recorded_ids(volume)
    new = elsewhere(volume)
    named = new.model_copy(update={"records_url": SecretStr(f"sqlite:///{new.home / place}")})
    (new.home / place).parent.mkdir(parents=True, exist_ok=True)
    assert restore_backup(named, made.path).database == "sqlite"
    assert find_prediction(named, ids[0]).id == ids[0]
    again = make_backup(named, shelf / "second")
    assert not [e for e in again.checked.manifest.entries if e.name == f"home/{place}"]
    with pytest.raises(ConfigError, match="BC_RECORDS_URL"):
        restore_backup(named, again.path, replace=True)
    assert find_prediction(named, ids[0]).id == ids[0]
    open_database(named).close()


def test_records_may_go_into_another_database_and_back(
    volume: Settings, shelf: Path, postgres: Postgres, tmp_path: Path
) -> None:
    """SQLite to PostgreSQL and from there to SQLite, with what waits in the log."""
    ids = recorded_ids(volume)
    made = make_backup(volume, shelf / "sqlite")
    server = elsewhere(volume, records_url=SecretStr(postgres.emptied()))
    assert restore_backup(server, made.path).database == "postgresql"
    assert list(server.records.glob("predictions*")) == []
    drainer = Drainer(server, threading.Event())
    assert drainer.run(once=True)
    drainer.close()

    again = make_backup(server, shelf / "postgresql")
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


def test_a_database_that_is_not_empty_is_left_alone(
    volume: Settings, shelf: Path, postgres: Postgres, tmp_path: Path
) -> None:
    made = make_backup(volume, shelf / "b")
    url = SecretStr(postgres.emptied())
    restore_backup(elsewhere(volume, records_url=url), made.path)
    other = volume.model_copy(update={"home": tmp_path / "third", "records_url": url})
    with pytest.raises(ConfigError, match="holds records already"):
        restore_backup(other, made.path)
    assert visible(other.home) == set()
    assert not (other.home / ".restore").exists()
    away = other.model_copy(
        update={"records_url": SecretStr(f"postgresql://bc:canary@/bc?host={tmp_path}")}
    )
    with pytest.raises(RecordsAway) as caught:
        restore_backup(away, made.path)
    assert "canary" not in str(caught.value)
    assert visible(other.home) == set()


def test_folders_that_were_made_before_are_filled(volume: Settings, shelf: Path) -> None:
    """As a deployment is prepared: empty folders, and locks that somebody took."""
    made = make_backup(volume, shelf / "b")
    new = elsewhere(volume)
    for name in ("data/wdbc/landing", "models/wdbc/versions", "records/wdbc", "keys"):
        (new.home / name).mkdir(parents=True)
    put(new.home / "models" / "wdbc" / ".registry.lock", b"")
    assert restore_backup(new, made.path).set_aside == ()
    assert audit.verify(Store(new.home, "wdbc")).lines == 2
    assert make_backup(new, shelf / "again").checked.checked == made.checked.checked


def test_mounts_on_the_volume_are_filled_and_emptied(
    volume: Settings, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename onto, of or across a mount fails as the system has it fail."""
    made = make_backup(volume, shelf / "b")
    new = elsewhere(volume)
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
    restore_backup(new, made.path)
    assert (new.home / "data/wdbc/landing/week 1.csv").stat().st_mtime == 1_700_000_000
    assert recorded_ids(new) == recorded_ids(volume)
    done = restore_backup(new, made.path, replace=True)
    assert (done.set_aside[0] / "data/wdbc/landing/week 1.csv").exists()
    assert all(mount.is_dir() for mount in mounts)
    assert make_backup(new, shelf / "again").checked.checked == made.checked.checked
