from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bc_pipeline.prediction_log import retention
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, lowest_id
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.outcome_counts import count_outcomes
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.retention import count_before, is_expired, purge, purge_quarantine
from bc_pipeline.prediction_log.segments import quarantine_folder
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings


def test_predictions_go_with_their_outcomes(
    log_settings: Settings,
    database: Database,
    entry: Callable[..., LogEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time()
    timestamps = [now - seconds for seconds in (50, 40, 30, 20, 10)]
    entries = [entry(id=lowest_id(moment), at=moment, version="v") for moment in timestamps]
    assert insert_durably(database, entries) == []
    reports = [OutcomeReport(one.id, True, "lab") for one in entries]
    record_outcomes(log_settings, reports, get_problem("wdbc").labels)
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    assert count_before(database, now - 15) == 4
    assert purge(database, now - 15) == 4
    assert purge(database, now - 15) == 0
    assert count_outcomes(database).total["v"].tp == 1


def test_what_was_set_aside_goes_with_its_time(settings: Settings) -> None:
    folder = quarantine_folder(settings.records)
    assert purge_quarantine(settings.records, 2e9) == []
    folder.mkdir(parents=True)
    old, new = lowest_id(1_000.0), lowest_id(2_000.0)
    for name in (f"{old}.refused", f"{old}-worker-0-8.damaged", f".{old}.refused.x", new, "mine"):
        (folder / name).write_bytes(b"features")
    assert len(purge_quarantine(settings.records, 1_500.0)) == 3
    assert {path.name for path in folder.iterdir()} == {new, "mine"}


def test_the_drainer_removes_what_is_too_old(settings: Settings) -> None:
    folder = quarantine_folder(settings.records)
    folder.mkdir(parents=True)
    (folder / f"{lowest_id(1_000.0)}.refused").write_bytes(b"features")
    (folder / f"{lowest_id(time.time())}.refused").write_bytes(b"features")
    limited = settings.model_copy(update={"records_retention_days": 1})
    drainer = Drainer(limited, threading.Event())
    assert drainer.run(once=True)
    drainer.close()
    assert len(list(folder.iterdir())) == 1


def test_all_are_kept_where_no_age_is_set(settings: Settings) -> None:
    old = lowest_id(0.0)
    assert not is_expired(settings, old)
    assert is_expired(settings.model_copy(update={"records_retention_days": 1}), old)
