"""Hidden files of backups that are being written, and of killed ones."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path

import pytest

from bc_pipeline.backup.age import MAGIC
from bc_pipeline.backup.create import create_backup
from bc_pipeline.backup.unfinished import remove_unfinished
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import write_file


def test_the_scratch_folder_of_a_killed_backup_is_removed(volume: Settings, backups: Path) -> None:
    write_file(volume.home / ".backup-killed" / "records.sqlite", b"rows")
    create_backup(volume, backups)
    assert not list(volume.home.glob(".backup-*"))


def test_unfinished_files_beside_the_target_are_removed(volume: Settings, backups: Path) -> None:
    old = time.time() - 7200
    abandoned = [
        write_file(backups / ".bc-pipeline-20261120T030000Z.tar.age.a1b2c3d4", MAGIC + b"and more"),
        write_file(backups / ".bc-pipeline-20261119T030000Z.tar.age.e_f2c3d4", b""),
        write_file(backups / ".named.a1b2c3d4", MAGIC + b"and more"),
    ]
    fresh = write_file(backups / ".bc-pipeline-20261121T030000Z.tar.age.a1b2c3d4", MAGIC)
    others = [
        write_file(backups / ".bc-pipeline-20261120T030000Z.tar.age.other123", b"something else"),
        write_file(backups / ".notes.a1b2c3d4", MAGIC + b"and more"),
        write_file(backups / "bc-pipeline-20261120T030000Z.tar.age", MAGIC + b"and more"),
        write_file(backups / ".bc-pipeline-20261118T030000Z.tar.age.under_wa", MAGIC),
    ]
    (backups / ".far.tar.age.a1b2c3d4").symlink_to(others[2])
    for path in (*abandoned, *others):
        os.utime(path, (old, old))
    with others[3].open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        create_backup(volume, backups / "named")
    assert not any(path.exists() for path in abandoned)
    assert all(path.exists() for path in (fresh, *others, backups / ".far.tar.age.a1b2c3d4"))


def test_the_file_of_a_running_backup_is_not_removed(volume: Settings, backups: Path) -> None:
    """Its check may take hours without a write to the file."""
    seen: list[Path] = []

    def report(text: str, _: float | None) -> None:
        if text.startswith("reading") and not seen:
            seen.extend(path for path in backups.iterdir() if path.name.startswith("."))
            os.utime(seen[0], (0, 0))
            remove_unfinished(backups / "other")

    create_backup(volume, backups, report=report)
    assert len(seen) == 1


def test_only_the_volume_and_the_target_are_written(
    volume: Settings, backups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    create_backup(volume, backups)
