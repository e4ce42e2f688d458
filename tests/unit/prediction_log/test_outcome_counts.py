from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bc_pipeline.prediction_log import outcome_counts
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.insert import insert_durably
from bc_pipeline.prediction_log.outcome_counts import Counts, OutcomeCounter, count_outcomes
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.retention import purge
from bc_pipeline.prediction_log.status import OutcomeCounts, RecentOutcomes
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings

LABELS = get_problem("wdbc").labels


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each time that all outcomes are counted."""
    calls: list[Any] = []

    def count(database: Database) -> Counts:
        calls.append(database)
        return count_outcomes(database)

    monkeypatch.setattr(outcome_counts, "count_outcomes", count)
    return calls


def test_it_counts_again_only_what_changed(
    log_settings: Settings, database: Database, entry: Callable[..., LogEntry], counted: list[Any]
) -> None:
    entries = [entry(version="v", positive=True) for _ in range(3)]
    insert_durably(database, entries)
    found = OutcomeCounter(database, Counts(), pause=0.0)

    def refreshed() -> dict[str, OutcomeCounts]:
        found._due = 0.0
        found.refresh()
        return found.counts.total

    assert refreshed() == {}
    record_outcomes(log_settings, [OutcomeReport(one.id, True, "lab") for one in entries], LABELS)
    assert refreshed() == {"v": OutcomeCounts(tp=3)}
    assert len(counted) == 2
    for _ in range(3):
        refreshed()
    assert len(counted) == 2
    record_outcomes(log_settings, [OutcomeReport(entries[0].id, False, "lab", None, True)], LABELS)
    assert refreshed() == {"v": OutcomeCounts(tp=2, fp=1)}
    purge(database, time.time() + 60)
    assert refreshed() == {}


def test_counting_takes_a_small_share_of_the_time(
    database: Database, counted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_counts, "_TIME_SHARE", 1e-9)
    known = Counts({"v": OutcomeCounts(tp=1)})
    found = OutcomeCounter(database, known, pause=0.0)
    assert found.counts == known
    for _ in range(5):
        found._change_marker = None
        found.refresh()
    assert len(counted) == 1


def test_recent_outcomes_are_those_of_the_window_with_their_probabilities(
    log_settings: Settings,
    database: Database,
    entry: Callable[..., LogEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = [("v", True, 0.75), ("v", False, 0.125), ("w", True, 0.5)]
    entries = [
        entry(version=version, positive=positive, probability=probability)
        for version, positive, probability in shown
    ]
    insert_durably(database, entries)
    record_outcomes(log_settings, [OutcomeReport(entries[0].id, True, "lab")], LABELS)
    ahead = time.time() + 20 * 86_400
    monkeypatch.setattr("time.time", lambda: ahead)
    reports = [OutcomeReport(one.id, True, "lab") for one in entries[1:]]
    record_outcomes(log_settings, reports, LABELS)
    found = OutcomeCounter(database, Counts(), pause=0.0)
    found.refresh()
    assert found.counts.recent == {
        "v": RecentOutcomes(tp=1, fn=1, expected=0.875),
        "w": RecentOutcomes(tp=1, expected=0.5),
    }
    # The first outcome leaves the window, though nothing was recorded since.
    ahead += 9 * 86_400
    found._due = 0.0
    found.refresh()
    assert found.counts.total == {"v": OutcomeCounts(tp=1, fn=1), "w": OutcomeCounts(tp=1)}
    assert found.counts.recent["v"] == RecentOutcomes(fn=1, expected=0.125)
