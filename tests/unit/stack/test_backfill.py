from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.backfill import is_passing, reason, run_backfill


@pytest.mark.parametrize(
    ("first", "last", "problem"),
    [
        ((2026, 3, 8), (2026, 3, 1), "ends before it starts"),
        ((2026, 3, 2), (2026, 3, 7), "has no Sunday in it"),
        ((2999, 3, 1), (2999, 3, 31), "starts no week that is complete"),
    ],
)
def test_dates_without_a_complete_week_are_refused_before_airflow_is_asked(
    settings: Settings, first: tuple[int, int, int], last: tuple[int, int, int], problem: str
) -> None:
    dates = (datetime(*first, tzinfo=UTC), datetime(*last, tzinfo=UTC))
    with pytest.raises(ConfigError, match=problem):
        run_backfill(settings, "wdbc_retrain", *dates, rerun=False, progress=lambda *_: None)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("Traceback\nx.y.Error: locked\n(Background on this error at: z)\n", "x.y.Error: locked."),
        ("Error: one is enough..\n", "Error: one is enough."),
        ("", "it does not say why."),
    ],
)
def test_thereason_is_what_airflow_says_not_its_footnote(output: str, said: str) -> None:
    assert reason(output) == said


LOCKED = """Traceback (most recent call last):
sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked
[SQL: INSERT INTO dag_run (dag_id) VALUES (?)]
[parameters: ('wdbc_retrain',)]
(Background on this error at: https://sqlalche.me/e/20/e3q8)
"""


def test_a_busy_database_is_waited_for_and_named() -> None:
    assert is_passing(LOCKED)
    assert is_passing("AlreadyRunningBackfill: Another backfill is running for DAG")
    assert not is_passing("DagNotFound: no such DAG")
    assert reason(LOCKED).endswith("database is locked.")
    assert reason("") == "it does not say why."
