"""Suites agree with the schema, catch every kind of corruption, and pass clean data."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.suites import (
    PURPOSES,
    Purpose,
    SuiteFile,
    build_frame,
    read_suite,
    rule_column,
)
from bc_pipeline.data.validation import load_gx, run_suite
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
EXPECTATIONS = ROOT / "expectations"
EACH_SUITE = [
    pytest.param(problem, purpose, id=f"{problem.name}-{purpose}")
    for problem in PROBLEMS
    for purpose in PURPOSES
]


def _load_corpus() -> ModuleType:
    """The benchmark that prints the table: its corpus is the one tested here."""
    path = ROOT / "bench" / "corruption_table.py"
    spec = importlib.util.spec_from_file_location("corruption_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


corpus = _load_corpus()


@pytest.fixture(scope="module")
def suites(wdbc: Problem) -> dict[str, SuiteFile]:
    return {purpose: read_suite(wdbc, purpose, EXPECTATIONS) for purpose in PURPOSES}


@pytest.fixture(scope="module")
def frames(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> dict[str, pd.DataFrame]:
    values, codes = reference
    keys = row_keys(values)
    return {
        "labelled": build_frame(wdbc, values, keys, codes),
        "scoring": build_frame(wdbc, values, keys, None),
    }


def kwargs_of(suite: SuiteFile, kind: str, column: str) -> list[dict[str, Any]]:
    """Arguments of the critical expectations of a type about a column, without the column."""
    return [
        {name: value for name, value in entry["kwargs"].items() if name != "column"}
        for entry in suite.declared
        if entry["type"] == kind
        and entry["severity"] == "critical"
        and entry["kwargs"].get("column") == column
        and "row_condition" not in entry["kwargs"]
    ]


# Agreement with the schema ------------------------------------------------------------


def test_every_problem_has_its_suites_and_no_other() -> None:
    suites = {path.relative_to(EXPECTATIONS).as_posix() for path in EXPECTATIONS.rglob("*.json")}
    assert suites == {f"{p.name}/{purpose}.json" for p in PROBLEMS for purpose in PURPOSES}
    assert Settings().expectations_dir == EXPECTATIONS


@pytest.mark.parametrize(("problem", "purpose"), EACH_SUITE)
def test_columns_are_those_of_the_schema(problem: Problem, purpose: Purpose) -> None:
    suite = read_suite(problem, purpose, EXPECTATIONS)
    (columns,) = (
        entry["kwargs"]["column_set"]
        for entry in suite.declared
        if entry["type"] == "expect_table_columns_to_match_set"
    )
    rules = [name for rule in problem.schema.rules if (name := rule_column(rule))]
    label = [problem.labels.column] if purpose == "labelled" else []
    assert columns == [ID_COLUMN, *problem.schema.names, *label, *rules]
    known = set(columns)
    for entry in suite.declared:
        for name in ("column", "column_A", "column_B"):
            assert entry["kwargs"].get(name, ID_COLUMN) in known


@pytest.mark.parametrize(("problem", "purpose"), EACH_SUITE)
def test_every_feature_has_its_type_range_and_values(problem: Problem, purpose: Purpose) -> None:
    suite = read_suite(problem, purpose, EXPECTATIONS)
    for feature in problem.schema.features:
        limits = {"min_value": feature.minimum, "max_value": feature.maximum}
        name = feature.name
        assert kwargs_of(suite, "expect_column_values_to_be_between", name) == [limits]
        assert kwargs_of(suite, "expect_column_values_to_not_be_null", name) == [{}]
        assert kwargs_of(suite, "expect_column_values_to_be_of_type", name) == [
            {"type_": "float64"}
        ]


@pytest.mark.parametrize(("problem", "purpose"), EACH_SUITE)
def test_every_rule_has_an_expectation_with_its_limits(problem: Problem, purpose: Purpose) -> None:
    suite = read_suite(problem, purpose, EXPECTATIONS)
    pairs = [
        entry["kwargs"]
        for entry in suite.declared
        if entry["type"] == "expect_column_pair_values_a_to_be_greater_than_b"
    ]
    assert pairs == [
        {"column_A": rule.left, "column_B": rule.right, "or_equal": True}
        for rule in problem.schema.rules
        if rule.kind == "at_least"
    ]
    for rule in problem.schema.rules:
        name = rule_column(rule)
        if rule.kind == "ratio":
            assert name is not None
            assert kwargs_of(suite, "expect_column_values_to_be_between", name) == [
                {"min_value": rule.low, "max_value": rule.high}
            ]
        elif rule.kind == "zero_together":
            assert name is not None
            assert kwargs_of(suite, "expect_column_values_to_be_in_set", name) == [
                {"value_set": [1.0]}
            ]


@pytest.mark.parametrize(("problem", "purpose"), EACH_SUITE)
def test_keys_are_never_null_and_unique(problem: Problem, purpose: Purpose) -> None:
    suite = read_suite(problem, purpose, EXPECTATIONS)
    assert kwargs_of(suite, "expect_column_values_to_not_be_null", ID_COLUMN) == [{}]
    assert kwargs_of(suite, "expect_column_values_to_be_unique", ID_COLUMN) == [{}]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_labels_are_the_two_codes_within_a_band(problem: Problem) -> None:
    suite = read_suite(problem, "labelled", EXPECTATIONS)
    label, codes = problem.labels.column, problem.load_reference().codes
    (allowed,) = kwargs_of(suite, "expect_column_values_to_be_in_set", label)
    assert set(allowed["value_set"]) == {problem.labels.positive.code, problem.labels.negative.code}
    (band,) = kwargs_of(suite, "expect_column_mean_to_be_between", label)
    assert band["min_value"] < codes.mean() < band["max_value"]
    assert not band["min_value"] < 1 - codes.mean() < band["max_value"]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_labelled_suite_bounds_the_middle_and_spread_of_every_feature(problem: Problem) -> None:
    suite = read_suite(problem, "labelled", EXPECTATIONS)
    values = problem.load_reference().values
    observed_by_kind = {
        "expect_column_median_to_be_between": np.median(values, axis=0),
        "expect_column_stdev_to_be_between": values.std(axis=0, ddof=1),
    }
    for kind, observed in observed_by_kind.items():
        for name, value in zip(problem.schema.names, observed, strict=True):
            (band,) = kwargs_of(suite, kind, name)
            assert 0 < band["min_value"] < value < band["max_value"], (kind, name)


@pytest.mark.parametrize(("problem", "purpose"), EACH_SUITE)
def test_file_is_what_great_expectations_writes(problem: Problem, purpose: Purpose) -> None:
    plain = json.loads((EXPECTATIONS / problem.name / f"{purpose}.json").read_bytes())
    loaded = load_gx().ExpectationSuite(**(plain | {"id": None}))
    assert json.loads(json.dumps(loaded.to_json_dict())) == plain


# Corruption ---------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", [*corpus.EVERY_SUITE, *corpus.LABELLED_SUITE])
def test_labelled_suite_catches_it_in_every_column(
    corruption: str, wdbc: Problem, suites: dict[str, SuiteFile], frames: dict[str, pd.DataFrame]
) -> None:
    corrupt = (corpus.EVERY_SUITE | corpus.LABELLED_SUITE)[corruption]
    caught = corpus.caught(wdbc, suites["labelled"], frames["labelled"], corrupt)
    assert caught == set(wdbc.schema.names)


@pytest.mark.parametrize("corruption", corpus.EVERY_SUITE)
def test_scoring_suite_catches_it_in_every_column(
    corruption: str, wdbc: Problem, suites: dict[str, SuiteFile], frames: dict[str, pd.DataFrame]
) -> None:
    corrupt = corpus.EVERY_SUITE[corruption]
    caught = corpus.caught(wdbc, suites["scoring"], frames["scoring"], corrupt)
    assert caught == set(wdbc.schema.names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corruption", "column"),
    [
        ("x 10", "texture_error"),
        ("constant", "mean_symmetry"),
        ("null in one row", "worst_area"),
        ("dropped", "mean_radius"),
    ],
)
def test_a_corruption_alone_is_caught_as_among_others(
    corruption: str,
    column: str,
    wdbc: Problem,
    suites: dict[str, SuiteFile],
    frames: dict[str, pd.DataFrame],
) -> None:
    corrupt = (corpus.EVERY_SUITE | corpus.LABELLED_SUITE)[corruption]
    result = run_suite(wdbc, suites["labelled"], corrupt(frames["labelled"], column))
    assert not result.passed
    assert column in corpus.failing_columns(result)


def _measure(name: str) -> str:
    return name.removeprefix("mean_").removeprefix("worst_").removesuffix("_error")


def _most_alike(frame: pd.DataFrame, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Pair every column with one of another measure, the most alike first."""

    def distance(one: str, other: str) -> float:
        return abs(math.log(frame[one].median() / frame[other].median())) + abs(
            math.log(frame[one].std() / frame[other].std())
        )

    pairs = sorted(
        (distance(one, other), one, other)
        for one in names
        for other in names
        if one < other and _measure(one) != _measure(other)
    )
    paired: set[str] = set()
    for _, one, other in pairs:
        if not paired & {one, other}:
            paired |= {one, other}
            yield one, other


def test_swapped_columns_are_caught(
    wdbc: Problem, suites: dict[str, SuiteFile], frames: dict[str, pd.DataFrame]
) -> None:
    pairing = list(_most_alike(frames["labelled"], wdbc.schema.names))
    assert {name for pair in pairing for name in pair} == set(wdbc.schema.names)
    missed, _ = corpus.missed_swaps(wdbc, suites["labelled"], frames["labelled"], [pairing])
    assert missed == []


@pytest.fixture(scope="module")
def bad_labels(wdbc: Problem, frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return corpus.labels_corrupted(wdbc, frames["labelled"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("labels the other way round", "diagnosis: mean is 0.372"),
        ("a third of the labels flipped", "worst_radius where diagnosis == 1: mean is"),
        ("labels shuffled", "worst_radius where diagnosis == 0: mean is"),
        ("label 2 in 1 % of the rows", "diagnosis: 6 of 569 values are not one of 0, 1"),
        ("label null in 1 % of the rows", "diagnosis: 6 of 569 values are missing"),
        ("label a word in 1 % of the rows", "diagnosis: 6 of 569 values are not one of 0, 1"),
        ("one class only", "diagnosis: mean is 1, outside 0.45 to 0.8"),
        ("label dropped", "columns: missing diagnosis"),
        ("key twice", "id: 2 of 569 values are not unique"),
        ("key null", "id: 1 of 569 values are missing"),
        ("no rows", "table: number of rows is 0, below 100"),
        ("99 rows", "table: number of rows is 99, below 100"),
    ],
)
def test_faults_of_labels_keys_and_rows_are_caught(
    fault: str,
    words: str,
    wdbc: Problem,
    suites: dict[str, SuiteFile],
    bad_labels: dict[str, pd.DataFrame],
) -> None:
    result = run_suite(wdbc, suites["labelled"], bad_labels[fault])
    assert any(failure.text.startswith(words) for failure in result.failed), result.failed


# Clean data ---------------------------------------------------------------------------


def sample(frame: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Some of the rows by a salted hash of their keys, without regard to the class."""
    order = sorted(
        range(len(frame)),
        key=lambda row: hashlib.sha256(f"{seed}{frame[ID_COLUMN][row]}".encode()).digest(),
    )
    return frame.iloc[order[:rows]].reset_index(drop=True)


@pytest.mark.parametrize(
    ("rows", "seed"), [(120, 1), (120, 2), (120, 3), (300, 1), (300, 2), (569, 1)]
)
def test_clean_labelled_data_passes(
    rows: int,
    seed: int,
    wdbc: Problem,
    suites: dict[str, SuiteFile],
    frames: dict[str, pd.DataFrame],
) -> None:
    assert run_suite(wdbc, suites["labelled"], sample(frames["labelled"], rows, seed)).failed == ()


@pytest.mark.parametrize(
    ("rows", "seed"), [(1, 1), (1, 2), (5, 1), (5, 2), (25, 1), (25, 2), (569, 1)]
)
def test_clean_data_to_score_passes(
    rows: int,
    seed: int,
    wdbc: Problem,
    suites: dict[str, SuiteFile],
    frames: dict[str, pd.DataFrame],
) -> None:
    result = run_suite(wdbc, suites["scoring"], sample(frames["scoring"], rows, seed))
    assert (result.failed, result.warnings) == ((), ())
