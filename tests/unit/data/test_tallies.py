"""Counts that are added say what Great Expectations says of the whole table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bc_pipeline.data.suites import SuiteFile, read_suite, table
from bc_pipeline.data.tallies import Tally, asks_unique_ids, require_countable
from bc_pipeline.data.validation import check
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem

EXPECTATIONS = Path(__file__).resolve().parents[3] / "expectations"
Spoil = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def suite(wdbc: Problem) -> SuiteFile:
    return read_suite(wdbc, "scoring", EXPECTATIONS)


def place(wdbc: Problem, name: str) -> int:
    return wdbc.schema.names.index(name)


def tallied(suite: SuiteFile, keys: list[str], values: np.ndarray, portion: int) -> Tally:
    """Each portion counted alone, told as JSON, and added up."""
    total = Tally(suite)
    for start in range(0, len(values), portion):
        part = Tally(suite)
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
def test_what_is_found_is_what_great_expectations_finds(
    columns: tuple[str, ...],
    factor: float,
    portion: int,
    wdbc: Problem,
    suite: SuiteFile,
    reference: tuple[np.ndarray, np.ndarray],
) -> None:
    values = reference[0][:150].copy()
    for column in columns:
        values[20:60:3, place(wdbc, column)] *= factor
    keys = [f"p{row}" for row in range(149)] + ["p5"]
    expected = check(wdbc, suite, table(wdbc, values, keys, None))
    found = tallied(suite, keys, values, portion).outcome(repeated=2)
    assert found.failed == expected.failed
    assert found.warnings == expected.warnings
    assert found.failed
    told = [(each["type"], each["success"]) for each in found.results]
    assert told == [(each["type"], each["success"]) for each in expected.results]


def test_no_rows_at_all_are_not_enough(suite: SuiteFile) -> None:
    assert "table: number of rows is 0, below 1" in [
        finding.text for finding in Tally(suite).outcome(0).failed
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
    assert asks_unique_ids(suite)
