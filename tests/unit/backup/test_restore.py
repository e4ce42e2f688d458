"""Restores: a volume is restored completely or not at all."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import require_store
from bc_pipeline.artifacts.versions import open_champion
from bc_pipeline.backup.create import create_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.backup.verify import verify_backup
from bc_pipeline.errors import BackupInvalid, ConfigError, DecryptionFailed, StackError, StoreUnfit
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.prediction_log.segments import list_segments, spool_folder
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from tests.unit.backup.age_keys import make_key
from tests.unit.backup.conftest import (
    make_entry,
    new_machine,
    promote,
    recorded_ids,
    visible_files,
    write_file,
)


def test_everything_is_restored(volume: Settings, backups: Path) -> None:
    before = recorded_ids(volume)
    created = create_backup(volume, backups)
    assert created.path.parent == backups
    assert stat.S_IMODE(created.path.stat().st_mode) == 0o600
    assert created.checked.counts == {"versions": 2, "audit_lines": 2, "tables": 1}
    waiting = {path.name for path in list_segments(spool_folder(volume.records))}
    old = volume.home.rename(volume.home.with_name("old"))

    new = new_machine(volume)
    done = restore_backup(new, created.path)
    assert done.checked == created.checked
    assert (done.database, done.set_aside) == ("file", ())
    excluded = {"logs/service.log", "stack/state.json"}
    excluded |= {
        name for name in visible_files(old) if name.endswith(("-wal", "-shm", "drain.lock"))
    }
    excluded |= {"records/wdbc/spool/offsets.json"}
    assert visible_files(new.home) == visible_files(old) - excluded
    for name in visible_files(new.home) - {"mlflow/mlflow.db", "records/wdbc/predictions.sqlite"}:
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


def test_a_restored_volume_can_be_used(volume: Settings, backups: Path) -> None:
    created = create_backup(volume, backups)
    new = new_machine(volume)
    restore_backup(new, created.path)
    promote(Store(new.home, "wdbc"), "v1")
    assert audit.verify(Store(new.home, "wdbc")).generation == 2
    drainer = Drainer(new, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    labels = get_problem("wdbc").labels
    (result,) = record_outcomes(new, [OutcomeReport(recorded_ids(new)[1], True, "lab")], labels)
    assert result.result == "recorded"


def test_a_backup_without_keys_has_no_keys(volume: Settings, backups: Path) -> None:
    created = create_backup(volume, backups / "b", with_keys=False)
    new = new_machine(volume)
    restore_backup(new, created.path)
    assert not (new.home / "keys").exists()
    shutil.copytree(volume.home / "keys", new.home / "keys")
    open_champion(Store(new.home, "wdbc"), new.verify_key).verify_all()


def test_the_verification_key_that_is_set_has_precedence(
    volume: Settings, backups: Path, tmp_path: Path
) -> None:
    from bc_pipeline.artifacts.signing import make_keys

    created = create_backup(volume, backups / "b")
    make_keys(tmp_path / "other.pem", tmp_path / "other_verify.pem")
    other = new_machine(volume, verify_key_file=tmp_path / "other_verify.pem")
    with pytest.raises(BackupInvalid, match="does not bear a signature") as caught:
        restore_backup(other, created.path)
    assert "BC_VERIFY_KEY_FILE" in caught.value.remedy
    assert not (other.home / "models").exists()


def test_a_missing_verification_key_is_named(
    volume: Settings, backups: Path, tmp_path: Path
) -> None:
    created = create_backup(volume, backups / "b")
    other = new_machine(volume, verify_key_file=tmp_path / "none.pem")
    for action in (verify_backup, lambda path, settings: restore_backup(settings, path)):
        with pytest.raises(ConfigError, match=r"none\.pem") as caught:
            action(created.path, other)
        assert caught.value.setting == "BC_VERIFY_KEY_FILE"
    assert visible_files(other.home) == set()


def test_another_identity_decrypts_nothing(volume: Settings, backups: Path, tmp_path: Path) -> None:
    created = create_backup(volume, backups / "b")
    make_key(tmp_path / "other")
    other = new_machine(volume, backup_key_file=tmp_path / "other")
    with pytest.raises(DecryptionFailed):
        verify_backup(created.path, other)
    with pytest.raises(DecryptionFailed):
        restore_backup(other, created.path)
    assert visible_files(other.home) == set()


@pytest.mark.parametrize("position", [0.0005, 0.3, 0.6, 0.999])
def test_a_changed_backup_restores_nothing(
    volume: Settings, backups: Path, position: float
) -> None:
    path = create_backup(volume, backups / "b").path
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 1
    path.write_bytes(data)
    new = new_machine(volume)
    for action in (verify_backup, lambda path, settings: restore_backup(settings, path)):
        with pytest.raises((BackupInvalid, DecryptionFailed)):
            action(path, new)
    assert visible_files(new.home) == set()
    assert not (new.home / ".restore").exists()


def test_a_volume_in_use_is_not_changed(volume: Settings, backups: Path) -> None:
    created = create_backup(volume, backups / "b")
    with pytest.raises(ConfigError, match="not empty"):
        restore_backup(volume, created.path)
    stop = threading.Event()
    drainer = Drainer(volume, stop)
    thread = threading.Thread(target=drainer.run)
    thread.start()
    try:
        while not _refused_for_a_process(volume, created.path):
            continue
    finally:
        stop.set()
        thread.join()
        drainer.close()


def test_a_worker_without_a_drainer_keeps_the_volume_in_use(
    volume: Settings, backups: Path
) -> None:
    created = create_backup(volume, backups / "b")
    spool = Spool.open(volume, "worker-2")
    try:
        spool.append([make_entry()])
        with pytest.raises(StackError):
            restore_backup(volume, created.path, replace=True)
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


def test_existing_content_is_set_aside_with_replace(volume: Settings, backups: Path) -> None:
    created = create_backup(volume, backups / "b")
    write_file(volume.home / "data" / "later.csv", b"later")
    done = restore_backup(volume, created.path, replace=True)
    assert not (volume.home / "data" / "later.csv").exists()
    (former,) = done.set_aside
    assert (former / "data" / "later.csv").read_bytes() == b"later"
    assert create_backup(volume, backups / "again").checked.counts == created.checked.counts


def test_segments_of_a_log_that_was_set_aside_can_be_added(volume: Settings, backups: Path) -> None:
    """A log that outlived its volume holds what was answered since the backup."""
    created = create_backup(volume, backups / "b")
    spool = Spool.open(volume, "worker-2")
    later = make_entry()
    spool.append([later])
    spool.close()
    (former,) = restore_backup(volume, created.path, replace=True).set_aside
    for segment in list_segments(spool_folder(former / "records" / "wdbc")):
        shutil.copy2(segment, spool_folder(volume.records) / segment.name)
    open_database(volume).close()
    drainer = Drainer(volume, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    ids = recorded_ids(volume)
    assert later.id in ids
    assert len(ids) == len(set(ids)) == 5


@pytest.mark.parametrize("apart", [False, True])
def test_a_partly_restored_volume_is_refused_until_a_restore_succeeds(
    volume: Settings, backups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """A second attempt with a wrong file must not unlock the volume."""
    created = create_backup(volume, backups / "b")
    new = new_machine(volume, records_dir=tmp_path / "apart" if apart else None)
    with monkeypatch.context() as patch:
        rename = Path.rename

        def fail(source: Path, target: Path) -> Path:
            if source.name == "models":
                raise OSError(errno.EIO, "the disk")
            return rename(source, target)

        patch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="the disk"):
            restore_backup(new, created.path)
    assert visible_files(new.home) != set()
    broken = write_file(backups / "broken", created.path.read_bytes()[:-1])
    for wrong in (broken, backups / "none"):
        with pytest.raises(BackupInvalid):
            restore_backup(new, wrong, replace=True)
        with pytest.raises(StoreUnfit, match="cut short"):
            require_store(new.home)
    restore_backup(new, created.path, replace=True)
    require_store(new.home)
    assert create_backup(new, backups / "again").checked.counts == created.checked.counts


def test_a_restore_that_was_killed_while_staging_can_be_abandoned(
    volume: Settings, backups: Path
) -> None:
    """Nothing was moved into place, so the volume may be used as it was."""
    write_file(volume.home / ".restore" / "data" / "part", b"part")
    with pytest.raises(BackupInvalid):
        restore_backup(volume, backups / "none", replace=True)
    require_store(volume.home)


def test_a_backup_of_a_later_store_is_refused(
    volume: Settings, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = create_backup(volume, backups / "b")
    monkeypatch.setattr("bc_pipeline.backup.verify.STORE_FORMAT", 0)
    with pytest.raises(StoreUnfit, match="format 2"):
        restore_backup(new_machine(volume), created.path)
