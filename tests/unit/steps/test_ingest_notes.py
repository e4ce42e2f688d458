"""What the ingest step says of files and rows that it did not take."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts.store import Store
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from bc_pipeline.steps.ingest_notes import ingest_notes


@pytest.fixture
def landing(store: Store, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Path:
    """A file with two bad rows of twenty, one dated 2106, one of a Latin-1 name."""
    values, codes = reference
    store.landing.mkdir(parents=True)
    header = ",".join([*wdbc.schema.names, "diagnosis"])
    for part, name in enumerate([b"march.csv", b"late.csv", b"caf\xe9.csv"]):
        # Not in order: the first rows of the public file are nearly all malignant.
        rows = range(part, 569, 9)[:60]
        lines = [",".join([*map(repr, values[row].tolist()), "MB"[codes[row]]]) for row in rows]
        lines[3] = lines[3][:-1] + "?"
        lines[5] = "999" + lines[5]
        path = store.landing / os.fsdecode(name)
        path.write_text("\n".join([header, *lines]))
    os.utime(store.landing / "late.csv", (2.0**32, 2.0**32))
    return store.landing


def test_refused_files_and_quarantined_rows_are_named_with_reasons(landing: Path) -> None:
    run = steps.Run("wdbc", "r", "2026-12-01T00:00:00Z")
    result = steps.ingest(Settings(), run)
    json.dumps(result, ensure_ascii=False).encode()
    assert {file["file"] for file in result["refused"]} == {"late.csv", r"caf\xe9.csv"}
    files, rows = result["notes"]
    assert files.startswith("2 landed files were refused: ")
    assert "late.csv was last modified at 2106-02-07T06:28:16Z" in files
    assert r"caf\xe9.csv has a name that is not UTF-8" in files
    assert rows.startswith("2 of 60 rows of march.csv were quarantined in batch ")
    assert "(1)" in rows

    # A refused file is told until somebody mends it, a quarantined row once.
    again = steps.ingest(Settings(), run)
    assert again["notes"] == [files]
    in_interval = steps.Run("wdbc", "r", run.as_of, interval_start="2000-01-01T00:00:00Z")
    assert steps.ingest(Settings(), in_interval)["notes"] == [files, rows]


def test_one_file_and_one_row_are_singular() -> None:
    batch = {"batch": "0a", "source": "a.csv", "read": 1, "quarantined": 1, "reasons": {"x": 1}}
    refused = {"file": "b.csv", "code": "file-refused", "reason": "b.csv is empty."}
    notes = ingest_notes([refused], [batch] * 11)
    assert notes[0] == "1 landed file was refused: b.csv is empty."
    assert notes[1] == "1 of 1 row of a.csv was quarantined in batch 0a: x (1)."
    assert notes[-1] == "1 more batch has quarantined rows."
