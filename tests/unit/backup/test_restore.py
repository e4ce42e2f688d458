"""Bringing backups back: all of it, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import require_store
from bc_pipeline.artifacts.versions import open_champion
from bc_pipeline.backup.make import make_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.backup.verify import verify_backup
from bc_pipeline.errors import (
    BackupInvalid,
    ConfigError,
    DecryptionFailed,
    RecordsAway,
    StackError,
    StoreUnfit,
)
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion import audit
from bc_pipeline.records.database import open_database
from bc_pipeline.records.drain import Drainer
from bc_pipeline.records.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.records.predictions import find_prediction
from bc_pipeline.records.segments import listed, spool_folder
from bc_pipeline.records.spool import Spool
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import an_entry, elsewhere, promote, put, recorded_ids, visible
from tests.unit.records.postgres import Postgres


def test_everything_comes_back(volume: Settings, shelf: Path) -> None:
    before = recorded_ids(volume)
    made = make_backup(volume, shelf)
    assert made.path.parent == shelf
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert made.size == made.path.stat().st_size
    assert made.checked.checked == {"versions": 2, "audit_lines": 2, "tables": 1}
    waiting = {path.name for path in listed(spool_folder(volume.records))}
    old = volume.home.rename(volume.home.with_name("old"))

    new = elsewhere(volume)
    done = restore_backup(new, made.path)
    assert done.checked == made.checked
    assert (done.database, done.set_aside) == ("file", ())
    left = {"logs/service.log", "stack/state.json"}
    left |= {name for name in visible(old) if name.endswith(("-wal", "-shm", "drain.lock"))}
    left |= {"records/wdbc/spool/offsets.json"}
    assert visible(new.home) == visible(old) - left
    for name in visible(new.home) - {"mlflow/mlflow.db", "records/wdbc/predictions.sqlite"}:
        first, second = old / name, new.home / name
        assert first.read_bytes() == second.read_bytes(), name
        assert first.stat().st_mode == second.stat().st_mode, name
        assert first.stat().st_mtime_ns == second.stat().st_mtime_ns, name
    assert stat.S_IMODE((new.home / "keys").stat().st_mode) == 0o700
    assert not (new.home / ".restore").exists()

    store = Store(new.home, "wdbc")
    assert audit.verify(store).lines == 2
    open_champion(store, new.verify_key).verify_all()
    assert recorded_ids(new) == before
    drainer = Drainer(new, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    assert len(recorded_ids(new)) == len(set(recorded_ids(new))) == len(before) + len(waiting)
    outcome = find_prediction(new, before[0]).outcome
    assert outcome is not None
    assert outcome.source == "lab"
    mlflow = sqlite3.connect(new.home / "mlflow" / "mlflow.db")
    assert mlflow.execute("SELECT name FROM runs").fetchall() == [("first",)]
    mlflow.close()


def test_a_restored_volume_goes_on(volume: Settings, shelf: Path) -> None:
    made = make_backup(volume, shelf)
    new = elsewhere(volume)
    restore_backup(new, made.path)
    promote(Store(new.home, "wdbc"), "v1")
    assert audit.verify(Store(new.home, "wdbc")).generation == 2
    drainer = Drainer(new, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    labels = get_problem("wdbc").labels
    (result,) = record_outcomes(new, [OutcomeReport(recorded_ids(new)[1], True, "lab")], labels)
    assert result.result == "recorded"


def test_without_keys_no_secret_is_taken(volume: Settings, shelf: Path) -> None:
    made = make_backup(volume, shelf / "b", with_keys=False)
    new = elsewhere(volume)
    restore_backup(new, made.path)
    assert not (new.home / "keys").exists()
    shutil.copytree(volume.home / "keys", new.home / "keys")
    open_champion(Store(new.home, "wdbc"), new.verify_key).verify_all()


def test_a_key_that_is_set_counts_and_not_that_of_the_backup(
    volume: Settings, shelf: Path, tmp_path: Path
) -> None:
    from bc_pipeline.artifacts.signing import make_keys

    made = make_backup(volume, shelf / "b")
    make_keys(tmp_path / "other.pem", tmp_path / "other_verify.pem")
    other = elsewhere(volume, verify_key_file=tmp_path / "other_verify.pem")
    with pytest.raises(BackupInvalid, match="does not bear a signature") as caught:
        restore_backup(other, made.path)
    assert "BC_VERIFY_KEY_FILE" in caught.value.remedy
    assert not (other.home / "models").exists()


def test_a_verification_key_that_is_not_there_is_named(
    volume: Settings, shelf: Path, tmp_path: Path
) -> None:
    made = make_backup(volume, shelf / "b")
    other = elsewhere(volume, verify_key_file=tmp_path / "none.pem")
    for act in (verify_backup, lambda path, settings: restore_backup(settings, path)):
        with pytest.raises(ConfigError, match=r"none\.pem") as caught:
            act(made.path, other)
        assert caught.value.setting == "BC_VERIFY_KEY_FILE"
    assert visible(other.home) == set()


def test_another_key_opens_nothing(volume: Settings, shelf: Path, tmp_path: Path) -> None:
    made = make_backup(volume, shelf / "b")
    other = elsewhere(
        volume, backup_key_file=put(tmp_path / "other", os.urandom(32).hex().encode())
    )
    with pytest.raises(DecryptionFailed):
        verify_backup(made.path, other)
    with pytest.raises(DecryptionFailed):
        restore_backup(other, made.path)
    assert visible(other.home) == set()


@pytest.mark.parametrize("place", [0.0005, 0.3, 0.6, 0.999])
def test_a_changed_backup_puts_nothing_in_place(
    volume: Settings, shelf: Path, place: float
) -> None:
    path = make_backup(volume, shelf / "b").path
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    new = elsewhere(volume)
    for act in (verify_backup, lambda path, settings: restore_backup(settings, path)):
        with pytest.raises((BackupInvalid, DecryptionFailed)):
            act(path, new)
    assert visible(new.home) == set()
    assert not (new.home / ".restore").exists()


def test_a_volume_in_use_is_left_alone(volume: Settings, shelf: Path) -> None:
    made = make_backup(volume, shelf / "b")
    with pytest.raises(ConfigError, match="not empty"):
        restore_backup(volume, made.path)
    stop = threading.Event()
    drainer = Drainer(volume, stop)
    thread = threading.Thread(target=drainer.run)
    thread.start()
    try:
        while not _refused_for_a_process(volume, made.path):
            continue
    finally:
        stop.set()
        thread.join()
        drainer.close()


def test_a_worker_without_a_drainer_keeps_the_volume_in_use(volume: Settings, shelf: Path) -> None:
    made = make_backup(volume, shelf / "b")
    spool = Spool.open(volume, "worker-2")
    try:
        spool.append([an_entry()])
        with pytest.raises(StackError):
            restore_backup(volume, made.path, replace=True)
    finally:
        spool.close()


def _refused_for_a_process(volume: Settings, path: Path) -> bool:
    """The drainer may not have its lock yet: then something else is in the way."""
    try:
        restore_backup(volume, path)
    except StackError:
        return True
    except ConfigError:
        return False
    raise AssertionError("it was restored")


def test_what_stood_there_is_set_aside_when_told(volume: Settings, shelf: Path) -> None:
    made = make_backup(volume, shelf / "b")
    put(volume.home / "data" / "later.csv", b"later")
    done = restore_backup(volume, made.path, replace=True)
    assert not (volume.home / "data" / "later.csv").exists()
    (aside,) = done.set_aside
    assert (aside / "data" / "later.csv").read_bytes() == b"later"
    assert make_backup(volume, shelf / "again").checked.checked == made.checked.checked


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


@pytest.mark.parametrize("apart", [False, True])
def test_a_volume_that_is_half_restored_stays_marked_until_a_restore_ends(
    volume: Settings, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """A second try with a wrong file must not make half a volume pass for a whole one."""
    made = make_backup(volume, shelf / "b")
    new = elsewhere(volume, records_dir=tmp_path / "apart" if apart else None)
    with monkeypatch.context() as patch:
        rename = Path.rename

        def fail(source: Path, target: Path) -> Path:
            if source.name == "models":
                raise OSError(errno.EIO, "the disk")
            return rename(source, target)

        patch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="the disk"):
            restore_backup(new, made.path)
    assert visible(new.home) != set()
    broken = put(shelf / "broken", made.path.read_bytes()[:-1])
    for wrong in (broken, shelf / "none"):
        with pytest.raises(BackupInvalid):
            restore_backup(new, wrong, replace=True)
        with pytest.raises(StoreUnfit, match="cut short"):
            require_store(new.home)
    restore_backup(new, made.path, replace=True)
    require_store(new.home)
    assert make_backup(new, shelf / "again").checked.checked == made.checked.checked


def test_a_restore_that_was_killed_while_it_read_leaves_what_was_there_in_use(
    volume: Settings, shelf: Path
) -> None:
    """Nothing was put in place, so giving up is a way out."""
    put(volume.home / ".restore" / "data" / "part", b"part")
    with pytest.raises(BackupInvalid):
        restore_backup(volume, shelf / "none", replace=True)
    require_store(volume.home)


def test_a_backup_of_a_later_store_is_refused(
    volume: Settings, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_backup(volume, shelf / "b")
    monkeypatch.setattr("bc_pipeline.backup.verify.STORE_FORMAT", 0)
    with pytest.raises(StoreUnfit, match="format 1"):
        restore_backup(elsewhere(volume), made.path)
