from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bc_pipeline.problems import get_problem
from bc_pipeline.records import summary
from bc_pipeline.records.database import Database
from bc_pipeline.records.entry import Entry
from bc_pipeline.records.insert import store
from bc_pipeline.records.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.records.retention import purge
from bc_pipeline.records.status import OutcomeCounts
from bc_pipeline.records.summary import OutcomeSummary, count_outcomes
from bc_pipeline.settings import Settings

LABELS = get_problem("wdbc").labels


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each time that all outcomes are counted."""
    calls: list[Any] = []

    def count(database: Database) -> dict[str, OutcomeCounts]:
        calls.append(database)
        return count_outcomes(database)

    monkeypatch.setattr(summary, "count_outcomes", count)
    return calls


def test_it_counts_again_only_what_changed(
    kept: Settings, database: Database, entry: Callable[..., Entry], counted: list[Any]
) -> None:
    entries = [entry(version="v", positive=True) for _ in range(3)]
    store(database, entries)
    found = OutcomeSummary(database, {}, pause=0.0)

    def refreshed() -> dict[str, OutcomeCounts]:
        found._due = 0.0
        found.refresh()
        return found.counts

    assert refreshed() == {}
    record_outcomes(kept, [OutcomeReport(one.id, True, "lab") for one in entries], LABELS)
    assert refreshed() == {"v": OutcomeCounts(tp=3)}
    assert len(counted) == 2
    for _ in range(3):
        refreshed()
    assert len(counted) == 2
    record_outcomes(kept, [OutcomeReport(entries[0].id, False, "lab", None, True)], LABELS)
    assert refreshed() == {"v": OutcomeCounts(tp=2, fp=1)}
    purge(database, time.time() + 60)
    assert refreshed() == {}


def test_counting_takes_a_small_share_of_the_time(
    database: Database, counted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "_SHARE", 1e-9)
    known = {"v": OutcomeCounts(tp=1)}
    found = OutcomeSummary(database, known, pause=0.0)
    assert found.counts == known
    for _ in range(5):
        found._mark = None
        found.refresh()
    assert len(counted) == 1
