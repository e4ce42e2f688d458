"""The suite that is counted as rows stream has the result of Great Expectations on all rows."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bc_pipeline.data import streamed_suite
from bc_pipeline.data.countable_expectations import is_countable
from bc_pipeline.data.streamed_suite import StreamedSuite
from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.data.suite_result import SuiteResult
from bc_pipeline.data.suites import SuiteFile, build_frame, read_suite, rule_column
from bc_pipeline.data.validation import run_suite
from bc_pipeline.problems import PROBLEMS, get_problem
from bc_pipeline.problems.base import Problem
from tests.contract.test_suites import EXPECTATIONS, corpus

pytestmark = pytest.mark.integration

WDBC = get_problem("wdbc")
NAMES = WDBC.schema.names
COLUMNS = (*NAMES, *(name for rule in WDBC.schema.rules if (name := rule_column(rule))))
SPECIAL = (0.0, -0.0, -1.0, 1.0, math.nan, math.inf, -math.inf, 1e308)
# Those that leave every column a column of numbers, as the rows of a file are when they are judged.
CORRUPTIONS = {
    name: corrupt
    for name, corrupt in (corpus.EVERY_SUITE | corpus.LABELLED_SUITE | corpus.SHOWN).items()
    if not name.startswith(("string", "dropped", "extra"))
}


@pytest.fixture(scope="module")
def suite(wdbc: Problem) -> SuiteFile:
    return read_suite(wdbc, "scoring", EXPECTATIONS)


def in_library(suite: SuiteFile, values: np.ndarray) -> SuiteResult:
    return run_suite(WDBC, suite, build_frame(WDBC, values, row_names(values), None))


def row_names(values: np.ndarray) -> list[str]:
    return [f"p{row}" for row in range(len(values))]


def counted(suite: SuiteFile, values: np.ndarray, portion: int) -> SuiteResult:
    """Count each portion alone, as an executor does, and add up what JSON leaves of the counts."""
    total, names = SuiteCounter(suite), row_names(values)
    for start in range(0, len(values), portion):
        part = SuiteCounter(suite)
        part(names[start : start + portion], values[start : start + portion])
        total.add(part.rows, msgspec.json.decode(msgspec.json.encode(part.counts)))
    return total.suite_result()


def streamed(suite: SuiteFile, values: np.ndarray, portion: int) -> SuiteResult:
    judged, names = StreamedSuite(suite), row_names(values)
    for start in range(0, len(values), portion):
        judged(names[start : start + portion], values[start : start + portion])
    return judged.result()


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_projects_scoring_suites_need_no_library(problem: Problem) -> None:
    declared = read_suite(problem, "scoring", EXPECTATIONS).declared
    assert all(map(is_countable, declared))


@pytest.mark.parametrize("corruption", ["none", *CORRUPTIONS])
def test_corrupted_tables_have_the_same_result(
    corruption: str, suite: SuiteFile, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    frame = build_frame(WDBC, reference[0], row_names(reference[0]), None)
    for name in NAMES if corruption in CORRUPTIONS else ():
        frame = CORRUPTIONS[corruption](frame, name)
    values = frame[list(NAMES)].to_numpy(np.float64)
    expected = in_library(suite, values)
    assert counted(suite, values, 100) == expected
    assert streamed(suite, np.asfortranarray(values), 569) == expected


bound = st.sampled_from([*SPECIAL[:4], 5.0, 15.0, 100.0, 0])
bounds = st.tuples(bound, bound).map(sorted)
column = st.sampled_from(COLUMNS)


def entry(kind: str, **kwargs: Any) -> Mapping[str, Any]:
    return {"type": kind, "kwargs": kwargs}


expectation = st.one_of(
    st.builds(
        lambda name, ends, side: entry(
            "expect_column_values_to_be_between",
            column=name,
            **dict(zip(("min_value", "max_value"), ends, strict=True)) | side,
        ),
        column,
        bounds,
        st.sampled_from([{}, {"min_value": None}, {"max_value": None}]),
    ),
    st.builds(
        lambda name, values: entry(
            "expect_column_values_to_be_in_set", column=name, value_set=values
        ),
        column,
        st.lists(bound, min_size=1, max_size=3),
    ),
    st.builds(
        lambda one, other, equal: entry(
            "expect_column_pair_values_a_to_be_greater_than_b",
            column_A=one,
            column_B=other,
            **equal,
        ),
        column,
        column,
        st.sampled_from([{}, {"or_equal": True}, {"or_equal": False}]),
    ),
    st.builds(lambda name: entry("expect_column_values_to_not_be_null", column=name), column),
    st.builds(
        lambda ends: entry(
            "expect_table_row_count_to_be_between", min_value=ends[0], max_value=ends[1]
        ),
        bounds,
    ),
    st.builds(
        lambda name: entry("expect_column_values_to_be_of_type", column=name, type_="float64"),
        column,
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Public rows of which some cells are replaced by numbers at the edges of the rules."""
    rows = draw(st.integers(1, 12))
    values = WDBC.load_reference().values[:rows].copy()
    cells = st.tuples(st.integers(0, rows - 1), st.integers(0, len(NAMES) - 1))
    for cell in draw(st.lists(cells, max_size=8)):
        values[cell] = draw(st.sampled_from(SPECIAL))
    for name in draw(st.lists(st.integers(0, len(NAMES) - 1), max_size=2)):
        values[:, name] = draw(st.sampled_from(SPECIAL))
    return values


@settings(max_examples=40)
@given(
    values=tables(),
    declared=st.lists(expectation, min_size=1, max_size=12, unique_by=repr),
    portion=st.integers(1, 12),
)
def test_random_tables_and_suites_have_the_same_result(
    values: np.ndarray, declared: list[Mapping[str, Any]], portion: int
) -> None:
    suite = SuiteFile("wdbc_scoring", "wdbc", "scoring", "0", tuple(declared), ())
    assert all(map(is_countable, declared))
    assert counted(suite, values, portion) == in_library(suite, values)


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_median_to_be_between", {"column": "mean_radius", "min_value": 1.0}),
        ("expect_column_values_to_be_unique", {"column": "mean_radius"}),
        ("expect_column_values_to_not_be_null", {"column": "id", "mostly": 0.9}),
        ("expect_column_values_to_match_regex", {"column": "id", "regex": "^p"}),
        ("expect_column_values_to_match_regex", {"column": "id", "regex": "^p[0-5]"}),
    ],
)
@pytest.mark.parametrize("portion", [50, 400])
def test_other_expectations_run_in_the_library_in_their_places(
    kind: str,
    kwargs: dict[str, Any],
    portion: int,
    suite: SuiteFile,
    reference: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streamed_suite, "PORTION_ROWS", 1000)
    declared = (*suite.declared[:4], {"type": kind, "kwargs": kwargs}, *suite.declared[4:6])
    edited = replace(suite, declared=declared)
    with capture_logs() as logs:
        result = streamed(edited, reference[0], portion)
    assert result == in_library(edited, reference[0])
    (line,) = logs
    assert (line["event"], line["expectations"]) == ("expectations_in_library", [kind])


def test_the_first_portion_that_fails_an_expectation_is_told(
    suite: SuiteFile, reference: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_suite, "PORTION_ROWS", 40)
    other = entry("expect_column_values_to_match_regex", column="id", regex="^p[0-4].?$")
    edited = replace(suite, declared=(*suite.declared, other))
    result = streamed(edited, reference[0][:100], 20)
    assert [failure.text for failure in result.failed] == [
        "id: column values to match regex: 5 of 40 values are not"
    ]
    assert result.results[-1]["result"]["element_count"] == 40


def test_the_library_is_not_imported_for_the_projects_suite() -> None:
    code = f"""
import sys
import numpy as np
from pathlib import Path
from bc_pipeline.data.streamed_suite import StreamedSuite
from bc_pipeline.data.suites import read_suite
from bc_pipeline.problems import get_problem
import bc_pipeline.scoring.local_batch

problem = get_problem("wdbc")
judged = StreamedSuite(read_suite(problem, "scoring", Path({str(EXPECTATIONS)!r})))
judged(["a"], np.ones((1, len(problem.schema.names))))
assert judged.rows == 1 and judged.result().failed
assert not {{"great_expectations", "pandas"}} & set(sys.modules), "loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
