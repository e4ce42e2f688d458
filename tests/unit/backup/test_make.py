"""Taking backups and bringing them back, on a volume that is in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_champion, read_registry
from bc_pipeline.backup.make import make_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.backup.verify import verify_backup
from bc_pipeline.errors import (
    BackupInvalid,
    ConfigError,
    DecryptionFailed,
    NotStored,
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
from tests.unit.backup.conftest import an_entry, promote, put, recorded_ids
from tests.unit.records.postgres import Postgres


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


def test_nothing_plain_is_in_the_file(volume: Settings, shelf: Path) -> None:
    data = make_backup(volume, shelf / "b").path.read_bytes()
    assert (volume.home / "keys" / "signing.pem").read_bytes().startswith(b"-----BEGIN PRIVATE")
    for told in (b"PRIVATE KEY", b"manifest.json", b"predictions", bytes(16)):
        assert told not in data


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
    with pytest.raises(BackupInvalid, match="does not bear a signature"):
        restore_backup(other, made.path)
    assert not (other.home / "models").exists()


def test_a_file_that_is_there_stays_unless_told(volume: Settings, shelf: Path) -> None:
    (shelf / "b").write_text("precious")
    with pytest.raises(ConfigError, match="--force"):
        make_backup(volume, shelf / "b")
    assert (shelf / "b").read_text() == "precious"
    make_backup(volume, shelf / "b", force=True)
    verify_backup(shelf / "b", volume)


def test_no_backup_on_the_volume_itself_or_of_none(volume: Settings, shelf: Path) -> None:
    with pytest.raises(ConfigError, match="on the volume itself"):
        make_backup(volume, volume.home / "data")
    with pytest.raises(NotStored):
        make_backup(elsewhere(volume), shelf)
    with pytest.raises(ConfigError, match="BC_BACKUP_KEY_FILE"):
        make_backup(volume.model_copy(update={"backup_key_file": None}), shelf)
    assert list(shelf.iterdir()) == []


def _damage_version(home: Path) -> str:
    path = home / "models/wdbc/versions/v1/model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return "Version v1 has not the files"


def _lose_version(home: Path) -> str:
    shutil.rmtree(home / "models/wdbc/versions/v0")
    return "has no version v0"


def _change_audit(home: Path) -> str:
    path = home / "audit/wdbc.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"actor":"test"', b'"actor":"nobody"'))
    return "Line 1 of wdbc's audit log was changed"


def _lose_rows(home: Path) -> str:
    (home / "data/wdbc/batches/b1.parquet").unlink()
    return "rows of data/wdbc/batches/b1.parquet"


def _swap_signature(home: Path) -> str:
    (home / "models/wdbc/versions/v1/manifest.sig").write_bytes(bytes(64))
    return "does not bear a signature"


def _roll_registry_back(home: Path) -> str:
    path = home / "models/wdbc/registry.json"
    path.write_bytes(path.read_bytes().replace(b'"generation": 1', b'"generation": 7'))
    return "at generation 7"


@pytest.mark.parametrize(
    "damage",
    [
        _damage_version,
        _lose_version,
        _change_audit,
        _lose_rows,
        _swap_signature,
        _roll_registry_back,
    ],
)
def test_a_damaged_volume_gives_no_backup(volume: Settings, shelf: Path, damage: object) -> None:
    said = damage(volume.home)  # type: ignore[operator]
    with pytest.raises(BackupInvalid, match=said):
        make_backup(volume, shelf)
    assert list(shelf.iterdir()) == []


def test_all_damage_is_told_at_once(volume: Settings, shelf: Path) -> None:
    said = [_damage_version(volume.home), _lose_rows(volume.home)]
    with pytest.raises(BackupInvalid) as caught:
        make_backup(volume, shelf)
    assert all(text in str(caught.value) for text in said)


def test_an_unfinished_audit_line_is_left_out(volume: Settings, shelf: Path) -> None:
    log = volume.home / "audit" / "wdbc.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"sequence":3,"at"')
    new = elsewhere(volume)
    restore_backup(new, make_backup(volume, shelf / "b").path)
    assert (new.home / "audit" / "wdbc.jsonl").read_bytes() == whole


def test_registry_and_audit_log_are_of_one_moment(volume: Settings, shelf: Path) -> None:
    """The champion changes all the time; every backup must hold together."""
    stop = threading.Event()
    store = Store(volume.home, "wdbc")

    def release() -> None:
        while not stop.is_set():
            for version in ("v1", "v0"):
                with locked(store.registry_lock):
                    promote(store, version)
                # So that the chain, which every release checks as a whole, stays short.
                stop.wait(0.02)

    thread = threading.Thread(target=release)
    thread.start()
    try:
        made = [make_backup(volume, shelf / str(number)) for number in range(3)]
    finally:
        stop.set()
        thread.join()
    generations = [each.checked.manifest.generations["wdbc"] for each in made]
    assert generations == sorted(set(generations))
    assert read_registry(store).generation > generations[-1]


def test_no_record_falls_between_log_and_database(volume: Settings, shelf: Path) -> None:
    """A drainer moves records all the while: each is in the log's copy or the database's."""
    stop = threading.Event()
    answered: list[str] = []

    def answer() -> None:
        number = 0
        while not stop.is_set():
            spool = Spool.open(volume, f"worker-{number % 10}")
            entries = [an_entry() for _ in range(20)]
            spool.append(entries)
            answered.extend(entry.id for entry in entries)
            spool.close()
            number += 1

    drainer = Drainer(volume, stop)
    threads = [threading.Thread(target=answer), threading.Thread(target=drainer.run)]
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            expected = set(answered)
            made = make_backup(volume, shelf / str(number))
            new = elsewhere(volume, home=volume.home.with_name(f"new-{number}"))
            restore_backup(new, made.path)
            after = Drainer(new, threading.Event())
            assert after.run(once=True)
            after.close()
            found = recorded_ids(new)
            assert expected <= set(found)
            assert len(found) == len(set(found))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        drainer.close()
    assert len(expected) > 50


def test_what_a_killed_backup_left_is_removed(volume: Settings, shelf: Path) -> None:
    put(volume.home / ".backup-killed" / "records.sqlite", b"rows")
    make_backup(volume, shelf)
    assert not list(volume.home.glob(".backup-*"))


def test_links_and_secrets_elsewhere_are_named(
    volume: Settings, shelf: Path, tmp_path: Path
) -> None:
    (volume.home / "data" / "wdbc" / "landing" / "link.csv").symlink_to("/etc/hostname")
    (volume.home / "data" / "wdbc" / "far").symlink_to("/etc")
    key = put(tmp_path / "artifact.key", b"00" * 32)
    made = make_backup(volume.model_copy(update={"artifact_key_file": key}), shelf)
    left = " ".join(made.checked.manifest.left_out)
    assert "link.csv" in left
    assert "far: a link" in left
    assert "BC_ARTIFACT_KEY_FILE" in left
    assert not any("hostname" in entry.name for entry in made.checked.manifest.entries)


# Restoring


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


def test_a_backup_of_a_later_store_is_refused(
    volume: Settings, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_backup(volume, shelf / "b")
    monkeypatch.setattr("bc_pipeline.backup.verify.STORE_FORMAT", 0)
    with pytest.raises(StoreUnfit, match="format 1"):
        restore_backup(elsewhere(volume), made.path)
