"""What a backup writes before it has its name, and what killed ones have left."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path

import pytest

from bc_pipeline.backup.make import make_backup
from bc_pipeline.backup.unfinished import remove_unfinished
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import put


def test_what_a_killed_backup_left_is_removed(volume: Settings, shelf: Path) -> None:
    put(volume.home / ".backup-killed" / "records.sqlite", b"rows")
    make_backup(volume, shelf)
    assert not list(volume.home.glob(".backup-*"))


def test_what_killed_backups_left_beside_the_target_is_removed(
    volume: Settings, shelf: Path
) -> None:
    old = time.time() - 7200
    left = [
        put(shelf / ".bc-pipeline-20261120T030000Z.bcbackup.a1b2c3d4", b"BCBACKUP and more"),
        put(shelf / ".bc-pipeline-20261119T030000Z.bcbackup.e_f2c3d4", b""),
        put(shelf / ".named.a1b2c3d4", b"BCBACKUP and more"),
    ]
    fresh = put(shelf / ".bc-pipeline-20261121T030000Z.bcbackup.a1b2c3d4", b"BCBACKUP and")
    others = [
        put(shelf / ".bc-pipeline-20261120T030000Z.bcbackup.other123", b"something else"),
        put(shelf / ".notes.a1b2c3d4", b"BCBACKUP and more"),
        put(shelf / "bc-pipeline-20261120T030000Z.bcbackup", b"BCBACKUP and more"),
        put(shelf / ".bc-pipeline-20261118T030000Z.bcbackup.under_wa", b"BCBACKUP and"),
    ]
    (shelf / ".far.bcbackup.a1b2c3d4").symlink_to(others[2])
    for path in (*left, *others):
        os.utime(path, (old, old))
    with others[3].open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        make_backup(volume, shelf / "named")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (fresh, *others, shelf / ".far.bcbackup.a1b2c3d4"))


def test_a_backup_under_way_is_not_taken_for_one_that_was_left(
    volume: Settings, shelf: Path
) -> None:
    """Its check may take hours, in which the file is not written to."""
    seen: list[Path] = []

    def tell(text: str, _: float | None) -> None:
        if text.startswith("reading") and not seen:
            seen.extend(path for path in shelf.iterdir() if path.name.startswith("."))
            os.utime(seen[0], (0, 0))
            remove_unfinished(shelf / "other")

    make_backup(volume, shelf, tell=tell)
    assert len(seen) == 1


def test_nothing_is_written_but_to_the_volume_and_the_target(
    volume: Settings, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    make_backup(volume, shelf)
