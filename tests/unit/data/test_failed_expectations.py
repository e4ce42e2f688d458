from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bc_pipeline.data.failed_expectations import can_check, describe_failure

WHERE = {
    "type": "comparison",
    "column": {"name": "diagnosis"},
    "operator": "==",
    "parameter": 0,
}
COUNTS = {"element_count": 50, "unexpected_count": 3}


@pytest.mark.parametrize(
    ("kind", "kwargs", "result", "text"),
    [
        (
            "expect_table_columns_to_match_set",
            {"column_set": ["a", "b", "c"]},
            {"observed_value": ["c", "d", "a"]},
            "columns: missing b; unexpected d",
        ),
        (
            "expect_table_row_count_to_be_between",
            {"min_value": 100.0},
            {"observed_value": 7},
            "table: number of rows is 7, below 100",
        ),
        (
            "expect_column_values_to_be_of_type",
            {"column": "a", "type_": "float64"},
            {"observed_value": "str"},
            "a: type is str, not float64",
        ),
        (
            "expect_column_values_to_not_be_null",
            {"column": "a"},
            COUNTS,
            "a: 3 of 50 values are missing",
        ),
        (
            "expect_column_values_to_be_unique",
            {"column": "a"},
            COUNTS,
            "a: 3 of 50 values are not unique",
        ),
        (
            "expect_column_values_to_be_between",
            {"column": "a", "min_value": 0.01, "max_value": 2.0},
            COUNTS,
            "a: 3 of 50 values are outside 0.01 to 2",
        ),
        (
            "expect_column_values_to_be_between",
            {"column": "a", "max_value": 2.0},
            COUNTS,
            "a: 3 of 50 values are above 2",
        ),
        (
            "expect_column_values_to_be_in_set",
            {"column": "a", "value_set": [0, 1.0, "B"]},
            COUNTS,
            "a: 3 of 50 values are not one of 0, 1, B",
        ),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "a", "column_B": "b", "or_equal": True},
            COUNTS,
            "a: 3 of 50 values are below b",
        ),
        (
            "expect_column_mean_to_be_between",
            {"column": "a", "row_condition": WHERE, "min_value": 1, "max_value": 2},
            {"observed_value": 2.25},
            "a where diagnosis == 0: mean is 2.25, outside 1 to 2",
        ),
        (
            "expect_column_mean_to_be_between",
            {"column": "a", "row_condition": {"type": "and"}, "min_value": 1},
            {"observed_value": None},
            "a where its row condition holds: mean is not defined, below 1",
        ),
        (
            "expect_column_median_to_be_between",
            {"column": "a", "min_value": 1, "max_value": 2},
            {},
            "a: could not be checked (column median to be between)",
        ),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "a", "column_B": "b", "or_equal": True},
            {},
            "a: could not be compared with b",
        ),
        (
            "expect_column_values_to_match_regex",
            {"column": "a", "regex": "x"},
            COUNTS,
            "a: column values to match regex: 3 of 50 values are not",
        ),
        ("expect_column_to_exist", {"column": "a"}, {"observed_value": 1}, "a: column to exist"),
    ],
)
def test_a_failure_is_described_in_a_sentence(
    kind: str, kwargs: dict[str, Any], result: dict[str, Any], text: str
) -> None:
    finding = describe_failure(kind, kwargs, result)
    assert (finding.type, finding.text) == (kind, text)


def test_a_failure_names_its_columns() -> None:
    columns = describe_failure(
        "expect_table_columns_to_match_set",
        {"column_set": ["a", "b"]},
        {"observed_value": ["b", "c"]},
    )
    pair = describe_failure(
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "a", "column_B": "b"},
        COUNTS,
    )
    assert columns.columns == ("a", "c")
    assert pair.columns == ("a", "b")


@pytest.mark.parametrize(
    ("kind", "kwargs", "answer"),
    [
        ("expect_column_mean_to_be_between", {"column": "number"}, True),
        ("expect_column_mean_to_be_between", {"column": "word"}, False),
        ("expect_column_mean_to_be_between", {"column": "mixed"}, False),
        ("expect_column_mean_to_be_between", {"column": "absent"}, False),
        ("expect_column_values_to_not_be_null", {"column": "word"}, True),
        ("expect_column_values_to_not_be_null", {"column": "absent"}, False),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "number", "column_B": "word"},
            False,
        ),
        ("expect_column_mean_to_be_between", {"column": "number", "row_condition": WHERE}, False),
        ("expect_table_row_count_to_be_between", {"min_value": 1}, True),
    ],
)
def test_expectations_that_a_table_does_not_allow_to_check(
    kind: str, kwargs: dict[str, Any], answer: bool
) -> None:
    frame = pd.DataFrame({"number": [1.0], "word": ["x"], "mixed": pd.Series([1.0], dtype=object)})
    assert can_check(kind, kwargs, frame) is answer
