"""What people read about the check of a batch."""

from __future__ import annotations

from typing import Literal

import pytest

from bc_pipeline.data.batch_history import BatchCheck, BatchFinding
from bc_pipeline.steps.hold_notes import describe_check


def check(
    verdict: Literal["passed", "too few rows", "held"], rows: int, batches: int = 1
) -> BatchCheck:
    return BatchCheck(
        verdict=verdict,
        at="2026-11-15T00:00:00Z",
        batches=tuple(f"b{number}" for number in range(batches)),
        rows=rows,
        reference="d1",
        level=0.01,
        findings=(BatchFinding("distribution", "mean_area", 3.0, 1e-6),),
    )


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (check("passed", 25), "passed: 25 rows that no earlier batch has"),
        (check("too few rows", 1), "too few rows: 1 row that no earlier batch has"),
        (
            check("passed", 20, 6),
            "passed: 20 rows that no earlier batch has (of 6 small batches, checked together)",
        ),
        (
            check("held", 20, 2),
            "held: 20 rows that no earlier batch has (of 2 small batches, checked together) differ",
        ),
        (check("held", 1), "held: 1 row that no earlier batch has differs from the champion rows"),
    ],
)
def test_a_check_says_which_rows_it_judged(made: BatchCheck, text: str) -> None:
    assert describe_check(made).startswith(text)
