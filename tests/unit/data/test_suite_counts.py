"""Which suites can be counted; `tests/contract/test_streamed_suite.py` compares the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.data.countable_expectations import require_countable
from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.data.suites import SuiteFile, read_suite
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem

pytestmark = pytest.mark.integration

EXPECTATIONS = Path(__file__).resolve().parents[3] / "expectations"
Spoil = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def suite(wdbc: Problem) -> SuiteFile:
    return read_suite(wdbc, "scoring", EXPECTATIONS)


def test_a_table_without_rows_fails(suite: SuiteFile) -> None:
    assert "table: number of rows is 0, below 1" in [
        failure.text for failure in SuiteCounter(suite).suite_result().failed
    ]


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_median_to_be_between", {"column": "mean_radius", "min_value": 1.0}),
        (
            "expect_column_values_to_be_between",
            {"column": "mean_radius", "min_value": 1.0, "mostly": 0.9},
        ),
        ("expect_column_values_to_be_unique", {"column": "mean_radius"}),
        # Great Expectations refuses or reads these in ways of its own.
        ("expect_column_values_to_be_between", {"column": "mean_radius"}),
        ("expect_column_values_to_be_between", {"column": "id", "min_value": 1}),
        (
            "expect_column_values_to_be_between",
            {"column": "mean_radius", "min_value": 2, "max_value": 1},
        ),
        ("expect_column_values_to_be_between", {"column": "mean_radius", "min_value": "2"}),
        ("expect_column_values_to_be_in_set", {"column": "mean_radius", "value_set": []}),
        ("expect_column_values_to_be_of_type", {"column": "id", "type_": "object"}),
        ("expect_column_values_to_be_of_type", {"column": "mean_radius", "type_": "float"}),
        ("expect_table_row_count_to_be_between", {"min_value": True}),
    ],
)
def test_a_suite_whose_counts_do_not_add_up_is_refused(
    kind: str, kwargs: dict[str, Any], suite: SuiteFile
) -> None:
    more = replace(suite, declared=(*suite.declared, {"type": kind, "kwargs": kwargs}))
    with pytest.raises(SuiteBroken, match=rf"expectation {len(more.declared)} \({kind}\)"):
        require_countable(more)


def test_the_suite_of_the_project_can_be_counted(suite: SuiteFile) -> None:
    require_countable(suite)
