"""Backups of before and after an erasure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts.store import Store
from bc_pipeline.backup.create import create_backup
from bc_pipeline.backup.restore import restore_backup
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.ingest import ingest_file
from bc_pipeline.errors import BackupInvalid
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from tests.unit.backup.conftest import new_machine


@pytest.fixture
def with_rows(
    volume: Settings, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> Settings:
    for path in Store.of(volume, "wdbc").batches.glob("b1*"):
        path.unlink()
    values, codes = reference
    landed = tmp_path / "week.csv"
    with landed.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", *wdbc.schema.names, "diagnosis"])
        for row in range(8):
            writer.writerow([f"P{row}", *values[row].tolist(), "MB"[codes[row]]])
    ingest_file(landed, wdbc, Store.of(volume, "wdbc"))
    return volume


def erase(settings: Settings) -> None:
    steps.erase(settings, "wdbc", sample_id="P3", reason="a letter", actor="cli:ada")


def test_a_backup_of_before_says_which_erasures_to_repeat(
    with_rows: Settings, backups: Path, wdbc: Problem
) -> None:
    before = create_backup(with_rows, backups / "before.age").path
    erase(with_rows)
    after = create_backup(with_rows, backups / "after.age").path
    assert restore_backup(with_rows, after, replace=True).erasures == ()
    done = restore_backup(with_rows, before, replace=True)
    assert len(done.erasures) == 1
    assert done.erasures[0].startswith("wdbc 0001 of ")
    assert done.erasures[0].endswith(": a letter")
    store = Store.of(with_rows, "wdbc")
    assert len(read_batch(wdbc, store, list_batches(store)[0])) == 8


def test_a_backup_of_after_has_the_note_and_is_checked_by_it(
    with_rows: Settings, backups: Path, wdbc: Problem
) -> None:
    store = Store.of(with_rows, "wdbc")
    path = store.batch_rows(list_batches(store)[0].batch)
    rows = path.read_bytes()
    erase(with_rows)
    new = new_machine(with_rows)
    restore_backup(new, create_backup(with_rows, backups / "after.age").path)
    restored = Store.of(new, "wdbc")
    assert len(read_batch(wdbc, restored, list_batches(restored)[0])) == 7
    path.write_bytes(rows)
    with pytest.raises(BackupInvalid, match="do not have the digest"):
        create_backup(with_rows, backups / "damaged.age")
