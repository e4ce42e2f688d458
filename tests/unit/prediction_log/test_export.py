from __future__ import annotations

import csv
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bc_pipeline.encryption import load_cipher
from bc_pipeline.errors import ConfigError, DecryptionFailed
from bc_pipeline.prediction_log import export
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.entry import LogEntry, lowest_id
from bc_pipeline.prediction_log.export import ExportSummary, export_predictions
from bc_pipeline.prediction_log.frames import encrypt
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings

WDBC = get_problem("wdbc")
SampleEntry = Callable[..., LogEntry]


def exported(settings: Settings, path: Path, **more: object) -> ExportSummary:
    return export_predictions(settings, path, WDBC.schema, WDBC.labels, **more)


@pytest.fixture
def entries(database: Database, entry: SampleEntry) -> list[LogEntry]:
    now = time.time()
    rng = np.random.default_rng(0)
    made = [
        entry(
            id=lowest_id(now - 3_600 * (20 - n)),
            at=now - 3_600 * (20 - n),
            positive=n % 2 == 0,
            sample_id="=HYPERLINK(1)" if n == 3 else None,
            values=rng.normal(size=30).astype("<f8").tobytes(),
        )
        for n in range(20)
    ]
    assert insert_durably(database, made) == []
    return made


def test_csv_holds_every_record_exactly(
    log_settings: Settings, entries: list[LogEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_PAGE", 7)
    path = tmp_path / "out.csv"
    assert exported(log_settings, path) == ExportSummary(rows=20, without_features=0, waiting=0)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["prediction_id"] for row in rows] == [made.id for made in entries]
    for row, made in zip(rows, entries, strict=True):
        values = [float(row[name]) for name in WDBC.schema.names]
        assert np.array(values).astype("<f8").tobytes() == made.values
        assert row["label"] == ("malignant" if made.positive else "benign")
        assert row["prediction"] == ("0" if made.positive else "1")
    # A spreadsheet must not run what a client sent.
    assert rows[3]["sample_id"] == "'=HYPERLINK(1)"
    assert path.stat().st_mode & 0o007 == 0


def test_parquet_with_outcomes(
    log_settings: Settings, entries: list[LogEntry], tmp_path: Path
) -> None:
    reports = [OutcomeReport(one.id, False, "lab", 1.8e9) for one in entries[:5]]
    record_outcomes(log_settings, reports, WDBC.labels)
    corrected = OutcomeReport(entries[0].id, True, "clinic", correction=True)
    record_outcomes(log_settings, [corrected], WDBC.labels)
    path = tmp_path / "out.parquet"
    assert exported(log_settings, path, with_outcomes=True).rows == 20
    table = pq.read_table(path)
    assert table["outcome_label"].to_pylist() == ["malignant"] + ["benign"] * 4 + [None] * 15
    assert table["outcome"].to_pylist() == [0, 1, 1, 1, 1] + [None] * 15
    assert table["outcome_source"].to_pylist()[:2] == ["clinic", "lab"]
    assert table["outcome_observed_at"].to_pylist()[1] == "2027-01-15T08:00:00.000Z"


def test_a_span_of_time(log_settings: Settings, entries: list[LogEntry], tmp_path: Path) -> None:
    start = datetime.fromtimestamp(entries[5].at, UTC)
    end = datetime.fromtimestamp(entries[9].at, UTC)
    path = tmp_path / "out.parquet"
    assert exported(log_settings, path, start=start, end=end).rows == 4
    assert pq.read_table(path)["prediction_id"].to_pylist() == [e.id for e in entries[5:9]]


def test_features_of_another_schema_are_left_empty(
    log_settings: Settings, database: Database, entry: SampleEntry, tmp_path: Path
) -> None:
    insert_durably(database, [entry(values=bytes(16))])
    path = tmp_path / "out.parquet"
    assert exported(log_settings, path) == ExportSummary(rows=1, without_features=1, waiting=0)
    assert pq.read_table(path)["mean_radius"].to_pylist() == [None]


def test_encrypted_features_need_the_key(
    log_settings: Settings, database: Database, entry: SampleEntry, tmp_path: Path, key_file: Path
) -> None:
    insert_durably(database, [encrypt(entry(sample_id="s"), load_cipher(key_file, "X"))])
    path = tmp_path / "out.csv"
    with pytest.raises(DecryptionFailed):
        exported(log_settings, path)
    assert list(tmp_path.glob("*out.csv*")) == []
    exported(log_settings.model_copy(update={"records_key_file": key_file}), path)
    with path.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["sample_id"], float(row["mean_radius"])) == ("s", 1.0)


def test_other_suffixes_are_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        exported(settings, tmp_path / "out.xlsx")
