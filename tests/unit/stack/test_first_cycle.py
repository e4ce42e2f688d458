from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bc_pipeline.stack.first_cycle import last_week


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (datetime(2026, 11, 21, 11, 31, tzinfo=UTC), 8, 15),  # a Saturday
        (datetime(2026, 11, 22, 0, 0, tzinfo=UTC), 15, 22),  # a Sunday, its first moment
        (datetime(2026, 11, 23, 9, 0, tzinfo=UTC), 15, 22),  # a Monday
    ],
)
def test_the_last_complete_week_runs_from_sunday_to_sunday(
    moment: datetime, start: int, end: int
) -> None:
    assert last_week(moment) == (
        datetime(2026, 11, start, tzinfo=UTC),
        datetime(2026, 11, end, tzinfo=UTC),
    )
