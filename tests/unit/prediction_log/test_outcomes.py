from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from bc_pipeline.errors import Defect, RecordsAway
from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry, lowest_id, new_id
from bc_pipeline.prediction_log.outcome_counts import count_outcomes
from bc_pipeline.prediction_log.outcomes import (
    OutcomeReport,
    OutcomeResult,
    parse_observed_at,
    record_outcomes,
)
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.prediction_log.status import OutcomeCounts, read_status
from bc_pipeline.prediction_log.tables import outcomes
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings

LABELS = get_problem("wdbc").labels
ANSWERED = 1_790_000_000.0
ID = lowest_id(ANSWERED)
SampleEntry = Callable[..., LogEntry]
OpenSpool = Callable[..., Spool]


def record(settings: Settings, *reports: OutcomeReport) -> list[OutcomeResult]:
    return record_outcomes(settings, reports, LABELS)


def history(database: Database) -> list[tuple[bool, bool]]:
    """Diagnoses in the order in which they came, and whether each holds."""
    with database.read_transaction() as connection:
        rows = connection.execute(sa.select(outcomes).order_by(outcomes.c.seq)).all()
    return [(row.positive, row.superseded_at is None) for row in rows]


def test_every_answer(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    one = entry(positive=True)
    spool_of(log_settings).append([one])

    def answer(positive: bool, **more: bool) -> OutcomeResult:
        return record(log_settings, OutcomeReport(one.id, positive, "lab", **more))[0]

    first = answer(False)
    assert (first.result, first.diagnosis, first.held, first.predicted) == (
        "recorded",
        "benign",
        "benign",
        "malignant",
    )
    assert answer(False).result == "known"
    assert answer(False, correction=True).result == "known"
    refused = answer(True)
    assert (refused.result, refused.diagnosis, refused.held) == ("conflict", "malignant", "benign")
    assert history(database) == [(False, True)]
    assert answer(True, correction=True).result == "corrected"
    # A retry of the correction finds it done.
    assert answer(True, correction=True).result == "known"
    assert history(database) == [(False, False), (True, True)]
    assert [made.result for made in record(log_settings, OutcomeReport(new_id(), True, "lab"))] == [
        "unknown"
    ]
    assert record(log_settings, OutcomeReport("nonsense", True, "lab"))[0].result == "unknown"


def test_many_at_once_in_their_order(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(1_200)]
    spool_of(log_settings).append(entries)
    assert Drainer(log_settings, threading.Event()).run(once=True)
    twice = [entries[7], *reversed(entries), entries[3]]
    results = record(log_settings, *(OutcomeReport(one.id, True, "lab") for one in twice))
    assert [made.prediction_id for made in results] == [one.id for one in twice]
    assert Counter(made.result for made in results) == {"recorded": 1_200, "known": 2}
    assert results[0].result == "recorded"
    assert results[-1].result == "known"
    assert len(history(database)) == 1_200


def test_one_list_may_record_and_correct(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    one = entry()
    spool_of(log_settings).append([one])
    results = record(
        log_settings,
        OutcomeReport(one.id, True, "lab"),
        OutcomeReport(one.id, False, "lab"),
        OutcomeReport(one.id, False, "lab", correction=True),
    )
    assert [made.result for made in results] == ["recorded", "conflict", "corrected"]
    assert history(database) == [(True, False), (False, True)]


def test_an_outcome_that_comes_before_the_drainer(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(100)]
    spool_of(log_settings).append(entries)
    few = record(log_settings, *(OutcomeReport(one.id, True, "lab") for one in entries[:3]))
    many = record(log_settings, *(OutcomeReport(one.id, True, "lab") for one in entries[3:]))
    assert {made.result for made in few + many} == {"recorded"}
    assert Drainer(log_settings, threading.Event()).run(once=True)
    assert len(history(database)) == 100


def test_late_outcomes_tell_how_late(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    moment = time.time() - 400 * 86_400
    one = entry(id=lowest_id(moment), at=moment)
    spool_of(log_settings).append([one])
    (result,) = record(log_settings, OutcomeReport(one.id, True, "lab"))
    assert result.days_after == pytest.approx(400, abs=0.01)
    other = entry(id=lowest_id(moment + 1), at=moment)
    spool_of(log_settings, "worker-1").append([other])
    (result,) = record(log_settings, OutcomeReport(other.id, True, "lab", moment + 86_400 * 2.0001))
    assert result.days_after == 2.0
    expiring = log_settings.model_copy(update={"records_retention_days": 365})
    assert record(expiring, OutcomeReport(one.id, True, "lab"))[0].result == "expired"


def test_the_first_moment_of_1970_is_a_moment(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    one = entry(id=lowest_id(3_600.0), at=3_600.0)
    spool_of(log_settings).append([one])
    (result,) = record(log_settings, OutcomeReport(one.id, True, "lab", 0.0))
    assert result.days_after == pytest.approx(-0.042)


def test_two_at_once_record_one(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    entries = [entry() for _ in range(40)]
    spool_of(log_settings).append(entries)
    answers: list[list[OutcomeResult]] = []
    barrier = threading.Barrier(4)

    def report(positive: bool) -> None:
        barrier.wait()
        # Each in an order of its own: they must not wait for each other in a ring.
        ordered = entries if positive else entries[::-1]
        answers.append(
            record(log_settings, *(OutcomeReport(one.id, positive, "lab") for one in ordered))
        )

    threads = [threading.Thread(target=report, args=(n % 2 == 0,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(made.result for found in answers for made in found)
    assert counted == {"recorded": 40, "known": 40, "conflict": 80}
    assert len(history(database)) == 40


def test_the_database_away_accepts_nothing(
    tmp_path: Path, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    nowhere = Settings(home=tmp_path, records_url=f"postgresql://bc@/bc?host={tmp_path}")
    one = entry()
    spool_of(nowhere).append([one])
    with pytest.raises(RecordsAway):
        record(nowhere, OutcomeReport(one.id, True, "lab"))


def test_counts_by_version(
    log_settings: Settings, database: Database, spool_of: OpenSpool, entry: SampleEntry
) -> None:
    kinds = [(True, True), (True, True), (True, False), (False, True), (False, False)]
    entries = [entry(positive=predicted, version="v1") for predicted, _ in kinds]
    other = entry(positive=True, version="v2")
    spool_of(log_settings).append([*entries, other])
    reports = [
        OutcomeReport(one.id, true, "lab") for one, (_, true) in zip(entries, kinds, strict=True)
    ]
    record(log_settings, *reports, OutcomeReport(other.id, False, "lab"))
    # A corrected diagnosis counts once, as what it is now.
    record(log_settings, OutcomeReport(other.id, True, "lab", correction=True))
    expected = {"v1": OutcomeCounts(tp=2, fn=1, fp=1, tn=1), "v2": OutcomeCounts(tp=1)}
    assert count_outcomes(database).total == expected
    assert Drainer(log_settings, threading.Event()).run(once=True)
    status = read_status(log_settings.records)
    assert status is not None
    assert status.outcomes == expected


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-09-21T14:13:20Z", ANSWERED),
        ("2026-09-21T14:13:20", ANSWERED),
        ("2026-09-21T16:13:20+02:00", ANSWERED),
        ("2026-09-21", 1_789_948_800.0),
        ("2026-09-20T14:13:21Z", ANSWERED - 86_399),
    ],
)
def test_a_date_or_time_of_any_zone(text: str, moment: float) -> None:
    assert parse_observed_at(text, ID) == moment


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no ISO 8601 date or time"),
        ("yesterday", "is no ISO 8601 date or time"),
        ("0001-01-01T00:00:00+14:00", "is no ISO 8601 date or time"),
        ("9999-12-31T23:59:59-14:00", "is no ISO 8601 date or time"),
        ("9999-12-31T23:59:59Z", "lies more than a day ahead of the clock"),
        ("2026-09-20T14:13:19Z", "lies before the prediction was answered"),
    ],
)
def test_what_cannot_be(text: str, reason: str) -> None:
    assert parse_observed_at(text, ID) == Defect(reason, column="observed_at")


def test_an_id_of_nobody_or_of_the_future_tells_no_earliest_time() -> None:
    assert parse_observed_at("1970-01-01", "A-17") == 0.0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert isinstance(parse_observed_at(today, lowest_id(9e9)), float)
