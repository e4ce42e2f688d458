"""Bringing backups back: all of it, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

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


def test_answers_that_were_set_aside_with_a_log_can_be_taken_in(
    volume: Settings, shelf: Path
) -> None:
    """A log that outlived its volume holds what was answered since the backup."""
    made = make_backup(volume, shelf / "b")
    spool = Spool.open(volume, "worker-2")
    later = an_entry()
    spool.append([later])
    spool.close()
    (aside,) = restore_backup(volume, made.path, replace=True).set_aside
    for segment in listed(spool_folder(aside / "records" / "wdbc")):
        shutil.copy2(segment, spool_folder(volume.records) / segment.name)
    open_database(volume).close()
    drainer = Drainer(volume, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    found = recorded_ids(volume)
    assert later.id in found
    assert len(found) == len(set(found)) == 5


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
