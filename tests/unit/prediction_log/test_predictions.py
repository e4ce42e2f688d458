from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_pipeline.errors import NotThere, RecordExpired, RecordsAway
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, lowest_id, new_id
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings

SampleEntry = Callable[..., LogEntry]
OpenSpool = Callable[..., Spool]


def drain_once(settings: Settings) -> None:
    assert Drainer(settings, threading.Event()).run(once=True)


def test_found_in_the_log_and_then_in_the_database(
    log_settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    spool = spool_of(log_settings, "worker-0")
    spool_of(log_settings, "worker-1").append([entry()])
    one = entry(sample_id="s")
    spool.append([entry() for _ in range(10)] + [one])
    before = find_prediction(log_settings, one.id)
    drain_once(log_settings)
    after = find_prediction(log_settings, one.id)
    assert (before.drained, after.drained) == (False, True)
    for stored in (before, after):
        for field in LogEntry.__struct_fields__:
            assert getattr(stored, field) == getattr(one, field)
        assert stored.outcome is None
        assert not stored.sealed


def test_its_outcome_is_told(
    log_settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    one = entry()
    spool_of(log_settings).append([one])
    drain_once(log_settings)
    labels = get_problem("wdbc").labels
    record_outcomes(log_settings, [OutcomeReport(one.id, False, "lab", time.time())], labels)
    record_outcomes(log_settings, [OutcomeReport(one.id, True, "clinic", correction=True)], labels)
    outcome = find_prediction(log_settings, one.id).outcome
    assert outcome is not None
    assert (outcome.positive, outcome.source, outcome.corrections) == (True, "clinic", 1)
    assert outcome.observed_at is None


@pytest.mark.parametrize("text", ["", "nothing", "' OR 1=1 --", "00000000"])
def test_what_is_no_id_is_not_there(log_settings: Settings, text: str) -> None:
    with pytest.raises(NotThere):
        find_prediction(log_settings, text)


def test_an_id_that_was_never_answered_is_not_there(
    log_settings: Settings, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    spool_of(log_settings).append([entry()])
    drain_once(log_settings)
    with pytest.raises(NotThere):
        find_prediction(log_settings, new_id())


def test_an_id_older_than_the_retention_has_expired(log_settings: Settings) -> None:
    old = lowest_id(time.time() - 31 * 86_400)
    drain_once(log_settings)
    with pytest.raises(RecordExpired):
        find_prediction(log_settings.model_copy(update={"records_retention_days": 30}), old)
    with pytest.raises(NotThere):
        find_prediction(log_settings, old)


def test_the_database_away(tmp_path: Path, spool_of: OpenSpool, entry: SampleEntry) -> None:
    nowhere = Settings(home=tmp_path, records_url=f"postgresql://bc@/bc?host={tmp_path}")
    one = entry()
    spool_of(nowhere).append([one])
    assert find_prediction(nowhere, one.id).id == one.id
    with pytest.raises(RecordsAway):
        find_prediction(nowhere, new_id())


def test_encrypted_features_open_with_the_key_alone(
    log_settings: Settings, spool_of: OpenSpool, entry: SampleEntry, key_file: Path, tmp_path: Path
) -> None:
    one = entry(sample_id="canary-patient")
    locked = log_settings.model_copy(update={"records_key_file": key_file})
    spool_of(locked).append([one])
    other_key = tmp_path / "other.key"
    other_key.write_text("00" * 32)
    for _ in range(2):
        opened = find_prediction(locked, one.id)
        assert (opened.values, opened.sample_id) == (one.values, "canary-patient")
        assert opened.sealed
        other = log_settings.model_copy(update={"records_key_file": other_key})
        for closed in (find_prediction(log_settings, one.id), find_prediction(other, one.id)):
            assert (closed.values, closed.sample_id) == (None, None)
            assert closed.probability == one.probability
        drain_once(log_settings)
    open_database(log_settings).close()
    if log_settings.records_url is None:
        for path in log_settings.records.glob("predictions.sqlite*"):
            assert b"canary" not in path.read_bytes()
            assert one.values[:16] not in path.read_bytes()
