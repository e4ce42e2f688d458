"""Added counts give the same result as Great Expectations on the whole table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bc_pipeline.data.suite_counts import SuiteCounter, require_countable
from bc_pipeline.data.suites import SuiteFile, build_frame, read_suite
from bc_pipeline.data.validation import run_suite
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem

pytestmark = pytest.mark.integration

EXPECTATIONS = Path(__file__).resolve().parents[3] / "expectations"
Spoil = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def suite(wdbc: Problem) -> SuiteFile:
    return read_suite(wdbc, "scoring", EXPECTATIONS)


def column_index(wdbc: Problem, name: str) -> int:
    return wdbc.schema.names.index(name)


def counted(suite: SuiteFile, keys: list[str], values: np.ndarray, portion: int) -> SuiteCounter:
    """Count each portion alone, encode the counts as JSON, and add them up."""
    total = SuiteCounter(suite)
    for start in range(0, len(values), portion):
        part = SuiteCounter(suite)
        part(keys[start : start + portion], values[start : start + portion])
        total.add(part.rows, msgspec.json.decode(msgspec.json.encode(part.counts)))
    return total


@pytest.mark.parametrize(
    ("columns", "factor"),
    [
        ((), 1.0),
        (("mean_radius",), 3.0),
        (("worst_area", "worst_radius"), 0.5),
        (("mean_concavity",), 0.0),
        (("mean_smoothness", "worst_texture", "area_error"), np.nan),
        (("mean_symmetry",), 100.0),
    ],
)
@pytest.mark.parametrize("portion", [7, 1000])
def test_counts_agree_with_great_expectations(
    columns: tuple[str, ...],
    factor: float,
    portion: int,
    wdbc: Problem,
    suite: SuiteFile,
    reference: tuple[np.ndarray, np.ndarray],
) -> None:
    values = reference[0][:150].copy()
    for column in columns:
        values[20:60:3, column_index(wdbc, column)] *= factor
    keys = [f"p{row}" for row in range(150)]
    expected = run_suite(wdbc, suite, build_frame(wdbc, values, keys, None))
    result = counted(suite, keys, values, portion).suite_result()
    assert result.failed == expected.failed
    assert result.warnings == expected.warnings
    assert bool(result.failed) == bool(columns)
    successes = [(each["type"], each["success"]) for each in result.results]
    assert successes == [(each["type"], each["success"]) for each in expected.results]


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
