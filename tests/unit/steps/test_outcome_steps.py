"""Outcomes become landed rows, and ingest treats them like any other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ConfigError, DecryptionFailed
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.frames import encrypt, records_cipher
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Run

Answer = Callable[..., list[LogEntry]]


@pytest.fixture
def volume(settings: Settings) -> Iterator[Store]:
    database = open_database(settings)
    database.migrate()
    yield Store.of(settings, "wdbc")
    database.close()


@pytest.fixture
def answer(settings: Settings, volume: Store) -> Answer:
    """Records answered predictions of rows, with names ``p0`` and so on, or without."""

    def make(
        values: np.ndarray, *, named: bool = True, cipher: Cipher | None = None
    ) -> list[LogEntry]:
        # Those of one millisecond are in no order.
        ids = sorted(new_id() for _ in values)
        entries = [
            LogEntry(
                identifier,
                time.time(),
                "v1",
                "ab" * 32,
                0.75,
                True,
                0.001,
                "ward",
                "/v1/predict",
                row.astype("<f8").tobytes(),
                f"p{number}" if named else None,
            )
            for number, (identifier, row) in enumerate(zip(ids, values, strict=True))
        ]
        insert_durably(
            open_database(settings),
            [encrypt(entry, cipher) if cipher else entry for entry in entries],
        )
        return entries

    return make


def report(
    settings: Settings, wdbc: Problem, entries: list[LogEntry], truth: Any, **fields: Any
) -> None:
    reports = [
        OutcomeReport(entry.id, bool(positive), "laboratory", **fields)
        for entry, positive in zip(entries, truth, strict=True)
    ]
    record_outcomes(settings, reports, wdbc.labels)


def run(at: datetime | None = None) -> Run:
    return Run("wdbc", "r", format_time(at or now()))


def land(settings: Settings, **options: Any) -> dict[str, Any]:
    return steps.land_outcomes(settings, run(), **options)


def landed(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.landing.glob("[!.]*")}


def test_known_outcomes_become_a_batch(
    settings: Settings, volume: Store, wdbc: Problem, reference: Any, answer: Answer
) -> None:
    values, codes = reference
    entries = answer(values[:60])
    truth = wdbc.labels.to_positive(codes[:60])
    report(settings, wdbc, entries[:50], truth[:50])
    result = land(settings)
    assert (result["outcomes"], result["landed"], result["known"]) == (50, 50, 0)
    ingested = steps.ingest(settings, run())
    assert (ingested["accepted"], ingested["quarantined"]) == (50, 0)
    (batch,) = list_batches(volume)
    assert batch.source == result["files"][0]
    assert batch.source.startswith("outcomes-")
    rows = read_batch(wdbc, volume, batch)
    assert rows.ids == tuple(f"p{row}" for row in range(50))
    assert rows.values.tolist() == values[:50].tolist()
    assert rows.codes.tolist() == codes[:50].tolist()
    # They had arrived when the last of them was recorded.
    assert abs(batch.arrival.timestamp() - time.time()) < 120
    assert batch.arrival <= now()


def test_the_same_outcomes_make_the_same_batch(
    settings: Settings, volume: Store, wdbc: Problem, reference: Any, answer: Answer
) -> None:
    values, codes = reference
    entries = answer(values[:40], named=False)
    report(settings, wdbc, entries, wdbc.labels.to_positive(codes[:40]))
    first = land(settings)
    files = landed(volume)
    assert land(settings) == first
    assert landed(volume) == files
    steps.ingest(settings, run())
    again = land(settings)
    assert (again["landed"], again["known"], again["files"]) == (0, 40, [])
    (batch,) = list_batches(volume)
    # Without a name the row has the prediction's id.
    assert read_batch(wdbc, volume, batch).ids == tuple(entry.id for entry in entries)
    assert landed(volume) == files


def test_a_corrected_outcome_is_rejected_until_its_batch_is_withdrawn(
    settings: Settings, volume: Store, wdbc: Problem, reference: Any, answer: Answer
) -> None:
    values, codes = reference
    entries = answer(values[:40])
    truth = wdbc.labels.to_positive(codes[:40])
    report(settings, wdbc, entries, truth)
    first = land(settings)
    steps.ingest(settings, run())
    report(settings, wdbc, entries[:1], [not truth[0]], correction=True)
    second = land(settings)
    assert (second["landed"], second["known"]) == (1, 39)
    assert second["files"] != first["files"]
    refused = steps.ingest(settings, run())["refused"]
    assert [entry["file"] for entry in refused] == second["files"]
    (batch,) = list_batches(volume)
    steps.decide_batch(
        settings, "wdbc", batch.batch, "withdrawn", actor="test", reason="one corrected"
    )
    # A withdrawn batch does not come back by itself.
    assert land(settings)["landed"] == 1
    assert land(settings, again=True)["landed"] == 40
    steps.ingest(settings, run())
    labels = {
        key: code
        for other in list_batches(volume)
        if other.batch != batch.batch
        for rows in [read_batch(wdbc, volume, other)]
        for key, code in zip(rows.ids, rows.codes.tolist(), strict=True)
    }
    assert labels["p0"] == 1 - codes[0]
    assert [labels[f"p{row}"] for row in range(1, 40)] == codes[1:40].tolist()


def test_outcomes_recorded_after_the_as_of_time_wait(
    settings: Settings, volume: Store, wdbc: Problem, reference: Any, answer: Answer
) -> None:
    values, codes = reference
    report(settings, wdbc, answer(values[:5]), wdbc.labels.to_positive(codes[:5]))
    result = steps.land_outcomes(settings, run(now() - timedelta(days=1)))
    assert (result["outcomes"], result["files"]) == (0, [])
    assert landed(volume) == {}


def test_a_repeated_prediction_lands_once_and_a_contradiction_is_left_to_ingest(
    settings: Settings, volume: Store, wdbc: Problem, reference: Any, answer: Answer
) -> None:
    values, codes = reference
    truth = wdbc.labels.to_positive(codes[:40])
    report(settings, wdbc, answer(values[:40]), truth)
    report(settings, wdbc, answer(values[:2]), [truth[0], not truth[1]])
    result = land(settings)
    assert (result["outcomes"], result["landed"], result["known"]) == (42, 41, 1)
    ingested = steps.ingest(settings, run())
    assert (ingested["accepted"], ingested["quarantined"]) == (39, 2)


def test_encrypted_features_need_their_key(
    settings: Settings,
    volume: Store,
    wdbc: Problem,
    reference: Any,
    answer: Answer,
    tmp_path: Path,
) -> None:
    values, codes = reference
    key = tmp_path / "records.key"
    key.write_text(os.urandom(32).hex())
    with_key = settings.model_copy(update={"records_key_file": key})
    entries = answer(values[:5], cipher=records_cipher(with_key))
    report(settings, wdbc, entries, wdbc.labels.to_positive(codes[:5]))
    with pytest.raises(DecryptionFailed):
        land(settings)
    assert landed(volume) == {}
    assert land(with_key)["landed"] == 5


def test_another_number_of_features_is_left_out(
    settings: Settings, volume: Store, wdbc: Problem, reference: Any, answer: Answer
) -> None:
    values, codes = reference
    report(settings, wdbc, answer(values[:3, :10]), wdbc.labels.to_positive(codes[:3]))
    result = land(settings)
    assert (result["outcomes"], result["without_features"], result["files"]) == (0, 3, [])


def test_the_log_of_another_problem_is_refused(settings: Settings, volume: Store) -> None:
    with pytest.raises(ConfigError, match="of other, and not of wdbc"):
        land(settings.model_copy(update={"service_problem": "other"}))
