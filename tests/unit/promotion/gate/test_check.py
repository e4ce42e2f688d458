from __future__ import annotations

import math

import pytest

from bc_pipeline.artifacts.evidence import Interval
from bc_pipeline.promotion.check import is_above_zero


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.002, True),
        (0.0, 0.1, False),
        (-0.1, 0.1, False),
        (None, 0.1, False),
        (math.nan, 0.1, False),
        (0.1, None, False),
        (0.1, math.nan, False),
        (math.inf, 0.1, False),
    ],
)
def test_an_interval_is_above_zero_where_all_of_it_is_known_and_positive(
    low: float | None, high: float | None, expected: bool
) -> None:
    assert is_above_zero(Interval(low, high, 0.95)) is expected


def test_no_interval_is_not_above_zero() -> None:
    assert is_above_zero(None) is False
