"""Taking backups of a volume that is in use."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.backup.make import Made, make_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.backup.verify import verify_backup
from bc_pipeline.errors import (
    BackupInvalid,
    ConfigError,
    NotStored,
)
from bc_pipeline.records import segments
from bc_pipeline.records.drain import Drainer
from bc_pipeline.records.spool import Spool
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import an_entry, elsewhere, promote, put, recorded_ids


def test_nothing_plain_is_in_the_file(volume: Settings, shelf: Path) -> None:
    data = make_backup(volume, shelf / "b").path.read_bytes()
    assert (volume.home / "keys" / "signing.pem").read_bytes().startswith(b"-----BEGIN PRIVATE")
    for told in (b"PRIVATE KEY", b"manifest.json", b"predictions", bytes(16)):
        assert told not in data


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
    with pytest.raises(ConfigError, match="BC_RECORDS_DIR"):
        make_backup(volume.model_copy(update={"records_dir": volume.home.parent}), shelf)
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
def test_a_damaged_volume_gives_no_backup(
    volume: Settings, shelf: Path, damage: Callable[[Path], str]
) -> None:
    said = damage(volume.home)
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
        made = []
        for number in range(3):
            made.append(make_backup(volume, shelf / str(number)))
            # A small volume is copied faster than the champion changes.
            taken = made[-1].checked.manifest.generations["wdbc"]
            while read_registry(store).generation == taken:
                assert thread.is_alive()
                stop.wait(0.01)
    finally:
        stop.set()
        thread.join()
    generations = [each.checked.manifest.generations["wdbc"] for each in made]
    assert generations == sorted(set(generations))
    assert read_registry(store).generation > generations[-1]


def test_a_backup_waits_for_a_release_under_way(volume: Settings, shelf: Path) -> None:
    store = Store(volume.home, "wdbc")
    made: list[Made] = []
    thread = threading.Thread(target=lambda: made.append(make_backup(volume, shelf / "b")))
    with locked(store.registry_lock):
        before = store.registry.read_bytes()
        promote(store, "v1")
        after = store.registry.read_bytes()
        # As in the midst of it: the two files disagree.
        store.registry.write_bytes(before)
        thread.start()
        thread.join(1.0)
        assert thread.is_alive()
        store.registry.write_bytes(after)
    thread.join()
    assert [each.checked.manifest.generations for each in made] == [{"wdbc": 2}]


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


def test_no_record_falls_between_log_and_quarantine(volume: Settings, shelf: Path) -> None:
    """The drainer sets aside what no database takes, and removes the segment, at any moment."""
    aside = volume.records / "quarantine" / "0.refused"

    def tell(text: str, _: float | None) -> None:
        if "/spool/" in text and not aside.exists():
            (segment,) = segments.listed(segments.spool_folder(volume.records))
            put(aside, segment.read_bytes())
            segment.unlink()

    made = make_backup(volume, shelf, tell=tell)
    names = {entry.name for entry in made.checked.manifest.entries}
    assert "records/wdbc/quarantine/0.refused" in names


def test_a_log_that_is_no_longer_used_is_named(
    volume: Settings, shelf: Path, tmp_path: Path
) -> None:
    """What waited in it when BC_RECORDS_DIR was set is in no database."""
    made = make_backup(volume.model_copy(update={"records_dir": tmp_path / "apart"}), shelf)
    left = " ".join(made.checked.manifest.left_out)
    assert f"{volume.home / 'records'}: not the log that BC_RECORDS_DIR names" in left


def test_a_folder_that_may_not_be_read_gives_no_backup(
    volume: Settings, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user than the stack's: without the keys it would be no backup."""
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if str(path) == str(volume.home / "keys"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError):
        make_backup(volume, shelf)
    assert list(shelf.iterdir()) == []
    make_backup(volume, shelf, with_keys=False)


def test_links_and_secrets_elsewhere_are_named(
    volume: Settings, shelf: Path, tmp_path: Path
) -> None:
    (volume.home / "data" / "wdbc" / "landing" / "link.csv").symlink_to("/etc/hostname")
    (volume.home / "data" / "wdbc" / "far").symlink_to("/etc")
    (volume.home / "notes.txt").symlink_to("/etc/hostname")
    key = put(tmp_path / "artifact.key", b"00" * 32)
    made = make_backup(volume.model_copy(update={"artifact_key_file": key}), shelf)
    left = " ".join(made.checked.manifest.left_out)
    assert "link.csv" in left
    assert "far: a link" in left
    assert "notes.txt" in left
    assert "BC_ARTIFACT_KEY_FILE" in left
    assert not any("hostname" in entry.name for entry in made.checked.manifest.entries)
