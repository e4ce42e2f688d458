from __future__ import annotations

import math

import pytest

from bc_pipeline.artifacts.findings import finding
from bc_pipeline.artifacts.verdict import Check


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (
            Check(
                "f",
                "specificity on the holdout at least 0.88",
                False,
                challenger=0.8654,
                bound=0.88,
            ),
            "specificity on the holdout 0.865, needs at least 0.88",
        ),
        (
            Check("f", "F1 on the holdout at least 0.87", False, challenger=0.86998, bound=0.87),
            "F1 on the holdout 0.86998, needs at least 0.87",
        ),
        (
            Check(
                "t",
                "F1 no lower than the champion's, within 0.08",
                False,
                champion=0.9213,
                challenger=0.8123,
                bound=0.8413,
            ),
            "F1 0.812, champion 0.921, needs no lower than the champion's, within 0.08",
        ),
        (
            Check("f", "F1 on the holdout at least 0.87", False, bound=0.87, note="Not computed."),
            "F1 on the holdout could not be computed, needs at least 0.87",
        ),
        (
            Check("f", "F1 on the holdout at least 0.87", False, challenger=math.nan, bound=0.87),
            "F1 on the holdout could not be computed, needs at least 0.87",
        ),
        (
            Check(
                "l", "median answer of the service within 50 ms", False, challenger=61.24, bound=50
            ),
            "median answer of the service 61.2, needs within 50 ms",
        ),
        (
            Check(
                "d",
                "data no older than the champion's",
                False,
                note="Champion: of May; challenger: of April.",
            ),
            "not met: data no older than the champion's. Champion: of May; challenger: of April",
        ),
        (
            Check("s", "the same features as the champion", False),
            "not met: the same features as the champion",
        ),
    ],
)
def test_a_finding_has_value_and_requirement(check: Check, text: str) -> None:
    assert finding(check) == text
