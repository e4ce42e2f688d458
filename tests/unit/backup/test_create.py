"""Backups of a volume that is in use."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.files import locked, sha256_file
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.backup.create import CreatedBackup, create_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.backup.verify import verify_backup
from bc_pipeline.errors import BackupInvalid, ConfigError
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import (
    make_entry,
    new_machine,
    promote,
    recorded_ids,
    visible_files,
    write_file,
)


def test_a_backup_contains_no_plaintext(volume: Settings, backups: Path) -> None:
    data = create_backup(volume, backups / "b").path.read_bytes()
    assert (volume.home / "keys" / "signing.pem").read_bytes().startswith(b"-----BEGIN PRIVATE")
    for plaintext in (b"PRIVATE KEY", b"manifest.json", b"predictions", bytes(16)):
        assert plaintext not in data


def test_the_secret_key_is_not_needed_and_no_other_decrypts(
    volume: Settings, backups: Path
) -> None:
    """Also the identity for the check of the new file is gone with its process."""
    writer = volume.model_copy(update={"backup_key_file": None})
    created = create_backup(writer, backups / "b")
    assert verify_backup(created.path, volume).counts == created.checked.counts
    with pytest.raises(ConfigError, match="BC_BACKUP_KEY_FILE") as caught:
        verify_backup(created.path, writer)
    assert caught.value.setting == "BC_BACKUP_KEY_FILE"


@pytest.mark.skipif(
    shutil.which("age") is None, reason="age is missing: 'apt-get install age' brings it"
)
def test_age_and_tar_open_a_backup_without_this_package(
    volume: Settings, backups: Path, tmp_path: Path
) -> None:
    created = create_backup(volume, backups / "backup.age")
    folder = tmp_path / "opened"
    folder.mkdir()
    subprocess.run(
        ["sh", "-c", 'age -d -i "$1" "$2" | tar x', "sh", volume.backup_key_file, created.path],
        cwd=folder,
        check=True,
    )
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    assert {entry["name"] for entry in manifest["entries"]} == visible_files(folder) - {
        "manifest.json"
    }
    for entry in manifest["entries"]:
        path = folder / entry["name"]
        assert sha256_file(path) == entry["sha256"]
        assert path.stat().st_mode & 0o777 == entry["mode"]
        assert int(path.stat().st_mtime) == entry["modified"] // 10**9
    model = "models/wdbc/versions/v0/model.onnx"
    assert (folder / "home" / model).read_bytes() == (volume.home / model).read_bytes()
    with closing(sqlite3.connect(folder / "records/wdbc/predictions.sqlite")) as database:
        ids = [row[0] for row in database.execute("SELECT id FROM predictions ORDER BY id")]
    assert ids == recorded_ids(volume)


def test_a_full_disk_leaves_no_file(volume: Settings, backups: Path) -> None:
    """A limit on file sizes fails a write as a full disk does; Python ignores its signal."""
    write_file(volume.home / "data" / "large.bin", os.urandom(8 << 20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            create_backup(volume, backups)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(backups.iterdir()) == []
    assert not list(volume.home.glob(".backup-*"))


def test_an_existing_file_is_replaced_only_with_force(volume: Settings, backups: Path) -> None:
    (backups / "b").write_text("precious")
    with pytest.raises(ConfigError, match="--force"):
        create_backup(volume, backups / "b")
    assert (backups / "b").read_text() == "precious"
    create_backup(volume, backups / "b", force=True)
    verify_backup(backups / "b", volume)


def test_unusable_targets_and_settings_are_refused(volume: Settings, backups: Path) -> None:
    with pytest.raises(ConfigError, match="on the volume itself"):
        create_backup(volume, volume.home / "data")
    with pytest.raises(ConfigError, match="There is no volume in"):
        create_backup(new_machine(volume), backups)
    with pytest.raises(ConfigError, match="BC_BACKUP_RECIPIENTS"):
        create_backup(volume.model_copy(update={"backup_recipients": ()}), backups)
    with pytest.raises(ConfigError, match="BC_RECORDS_DIR"):
        create_backup(volume.model_copy(update={"records_dir": volume.home.parent}), backups)
    assert list(backups.iterdir()) == []


def _damage_version(home: Path) -> str:
    path = home / "models/wdbc/versions/v1/model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return "files of version v1 are not those"


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
    return "registry.json was changed"


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
def test_a_damaged_volume_is_not_backed_up(
    volume: Settings, backups: Path, damage: Callable[[Path], str]
) -> None:
    expected = damage(volume.home)
    with pytest.raises(BackupInvalid, match=expected):
        create_backup(volume, backups)
    assert list(backups.iterdir()) == []


def test_all_damage_is_reported_at_once(volume: Settings, backups: Path) -> None:
    expected = [_damage_version(volume.home), _lose_rows(volume.home)]
    with pytest.raises(BackupInvalid) as caught:
        create_backup(volume, backups)
    assert all(text in str(caught.value) for text in expected)


def test_an_unfinished_audit_line_is_left_out(volume: Settings, backups: Path) -> None:
    log = volume.home / "audit" / "wdbc.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"sequence":3,"at"')
    new = new_machine(volume)
    restore_backup(new, create_backup(volume, backups / "b").path)
    assert (new.home / "audit" / "wdbc.jsonl").read_bytes() == whole


def test_registry_and_audit_log_are_of_one_moment(volume: Settings, backups: Path) -> None:
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
        created = []
        for number in range(3):
            created.append(create_backup(volume, backups / str(number)))
            # A small volume is copied faster than the champion changes.
            copied = created[-1].checked.manifest.generations["wdbc"]
            while read_registry(store).generation == copied:
                assert thread.is_alive()
                stop.wait(0.01)
    finally:
        stop.set()
        thread.join()
    generations = [backup.checked.manifest.generations["wdbc"] for backup in created]
    assert generations == sorted(set(generations))
    assert read_registry(store).generation > generations[-1]


def test_a_backup_waits_for_a_release_under_way(volume: Settings, backups: Path) -> None:
    store = Store(volume.home, "wdbc")
    created: list[CreatedBackup] = []
    thread = threading.Thread(target=lambda: created.append(create_backup(volume, backups / "b")))
    with locked(store.registry_lock):
        before = store.registry.read_bytes()
        promote(store, "v1")
        after = store.registry.read_bytes()
        # As during a release: the two files disagree.
        store.registry.write_bytes(before)
        thread.start()
        thread.join(1.0)
        assert thread.is_alive()
        store.registry.write_bytes(after)
    thread.join()
    assert [backup.checked.manifest.generations for backup in created] == [{"wdbc": 2}]


def test_an_entry_moved_to_the_database_meanwhile_is_copied(
    volume: Settings, backups: Path
) -> None:
    """A drainer moves entries all the while: every entry is in one of the two copies."""
    stop = threading.Event()
    answered: list[str] = []

    def answer() -> None:
        number = 0
        while not stop.is_set():
            spool = Spool.open(volume, f"worker-{number % 10}")
            entries = [make_entry() for _ in range(20)]
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
            created = create_backup(volume, backups / str(number))
            new = new_machine(volume, home=volume.home.with_name(f"new-{number}"))
            restore_backup(new, created.path)
            after = Drainer(new, threading.Event())
            assert after.run(once=True)
            after.close()
            ids = recorded_ids(new)
            assert expected <= set(ids)
            assert len(ids) == len(set(ids))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        drainer.close()
    assert len(expected) > 50


def test_an_entry_moved_to_quarantine_meanwhile_is_copied(volume: Settings, backups: Path) -> None:
    """The drainer may quarantine refused entries, and remove the segment, at any moment."""
    quarantined = volume.records / "quarantine" / "0.refused"

    def report(text: str, _: float | None) -> None:
        if "/spool/" in text and not quarantined.exists():
            (segment,) = segments.list_segments(segments.spool_folder(volume.records))
            write_file(quarantined, segment.read_bytes())
            segment.unlink()

    created = create_backup(volume, backups, report=report)
    names = {entry.name for entry in created.checked.manifest.entries}
    assert "records/wdbc/quarantine/0.refused" in names


def test_a_log_that_is_no_longer_used_is_listed(
    volume: Settings, backups: Path, tmp_path: Path
) -> None:
    """Entries that waited in it when BC_RECORDS_DIR was set are in no database."""
    created = create_backup(volume.model_copy(update={"records_dir": tmp_path / "apart"}), backups)
    left_out = " ".join(created.checked.manifest.left_out)
    assert f"{volume.home / 'records'}: not the log that BC_RECORDS_DIR names" in left_out


def test_an_unreadable_folder_fails_the_backup(
    volume: Settings, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user other than the stack's may not read the keys: the backup would be incomplete."""
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if str(path) == str(volume.home / "keys"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError):
        create_backup(volume, backups)
    assert list(backups.iterdir()) == []
    create_backup(volume, backups, with_keys=False)


def test_links_and_secrets_elsewhere_are_listed(
    volume: Settings, backups: Path, tmp_path: Path
) -> None:
    (volume.home / "data" / "wdbc" / "landing" / "link.csv").symlink_to("/etc/hostname")
    (volume.home / "data" / "wdbc" / "far").symlink_to("/etc")
    (volume.home / "notes.txt").symlink_to("/etc/hostname")
    key = write_file(tmp_path / "artifact.key", b"00" * 32)
    created = create_backup(volume.model_copy(update={"artifact_key_file": key}), backups)
    left_out = " ".join(created.checked.manifest.left_out)
    assert "link.csv" in left_out
    assert "far: a link" in left_out
    assert "notes.txt" in left_out
    assert "BC_ARTIFACT_KEY_FILE" in left_out
    assert not any("hostname" in entry.name for entry in created.checked.manifest.entries)
