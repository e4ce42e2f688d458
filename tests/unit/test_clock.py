from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bc_pipeline.clock import format_time, now, parse_time
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
