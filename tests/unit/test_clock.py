from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bc_pipeline.clock import (
    checked_time,
    file_time_defect,
    format_time,
    now,
    parse_time,
    poll,
)
from bc_pipeline.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    ["2026-11-15T00:00:00Z", "2026-11-15", "2026-11-15T02:00:00+02:00", "2026-11-15T00:00:00"],
)
def test_times_are_read_as_utc(text: str) -> None:
    assert parse_time(text) == datetime(2026, 11, 15, tzinfo=UTC)
    assert format_time(parse_time(text)) == "2026-11-15T00:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "15/11/2026",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a date or time"):
        parse_time(text)


def test_other_zones_are_turned_into_utc() -> None:
    moment = datetime(2026, 11, 15, 1, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == "2026-11-14T23:00:00Z"
    assert now().tzinfo is UTC


def test_polling_tries_at_once_and_ends_when_the_time_is_up() -> None:
    assert len(list(poll(0, 10))) == 1
    assert len(list(poll(0.05, 0.02))) > 1


AT = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["1900-01-01", "2026-12-01T12:00:00Z", "2026-12-02T12:00:00Z"])
def test_a_time_of_the_past_or_of_the_coming_day_is_taken(text: str) -> None:
    assert checked_time(text, "--as-of", AT) == parse_time(text)
    assert checked_time(parse_time(text), "--as-of", AT) == parse_time(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-12-02T12:00:01Z", "is 2026-12-02T12:00:01Z, which lies more than a day ahead"),
        ("2099-01-01", "--as-of is 2099-01-01T00:00:00Z, which lies more than a day ahead"),
        ("9999-12-31", "is 9999-12-31T00:00:00Z, which lies more than a day ahead"),
        ("1899-12-31T23:59:59Z", "is 1899-12-31T23:59:59Z, which lies before 1900"),
        ("0001-01-01", "is 0001-01-01T00:00:00Z, which lies before 1900"),
        ("nonsense", "is not a date or time"),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_name_and_date(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        checked_time(text, "--as-of", AT)
    assert caught.value.setting == "--as-of"


def test_every_year_is_written_with_four_digits() -> None:
    assert format_time(parse_time("0001-01-01")) == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("modified", "reason"),
    [
        (2.0**32, "2106-02-07T06:28:16Z, which lies more than a day ahead of the clock"),
        (-2.3e9, "1897-02-11T15:06:40Z, which lies before 1900"),
        (1e18, "at a time that lies outside the calendar"),
    ],
)
def test_a_file_of_another_time_is_refused_with_a_remedy(modified: float, reason: str) -> None:
    defect = file_time_defect(modified)
    assert defect is not None
    assert reason in defect
    assert "`touch`" in defect
    assert file_time_defect(AT.timestamp()) is None
