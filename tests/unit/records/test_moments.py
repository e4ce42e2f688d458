from __future__ import annotations

import time

import pytest

from bc_pipeline.errors import Defect
from bc_pipeline.records.entry import first_id
from bc_pipeline.records.moments import read_moment

ANSWERED = 1_790_000_000.0
ID = first_id(ANSWERED)


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
    assert read_moment(text, ID) == moment


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no ISO 8601 date or time"),
        ("yesterday", "is no ISO 8601 date or time"),
        ("0001-01-01T00:00:00+14:00", "is no ISO 8601 date or time"),
        ("9999-12-31T23:59:59-14:00", "is no ISO 8601 date or time"),
        ("9999-12-31T23:59:59Z", "lies in the future"),
        ("2026-09-20T14:13:19Z", "lies before the prediction was answered"),
    ],
)
def test_what_cannot_be(text: str, reason: str) -> None:
    assert read_moment(text, ID) == Defect(reason, column="observed_at")


def test_an_id_of_nobody_or_of_the_future_tells_no_earliest_time() -> None:
    assert read_moment("1970-01-01", "A-17") == 0.0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert isinstance(read_moment(today, first_id(9e9)), float)
