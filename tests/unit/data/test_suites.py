from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bc_pipeline.data.suites import (
    add_rule_columns,
    build_frame,
    frame_digest,
    read_suite,
    rule_column,
)
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem
from bc_pipeline.row_rule import RowRule
from bc_pipeline.settings import Settings


def entry(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {}, "severity": "critical"}


@pytest.fixture
def plain(wdbc: Problem) -> dict[str, Any]:
    """The least that a suite of WDBC must ask for."""
    return {
        "name": "wdbc_scoring",
        "id": None,
        "expectations": [
            entry("expect_table_columns_to_match_set", column_set=list(wdbc.schema.names)),
            entry("expect_table_row_count_to_be_between", min_value=1),
            *(
                entry("expect_column_values_to_not_be_null", column=name)
                for name in wdbc.schema.names
            ),
        ],
        "meta": {},
        "notes": "as little as may be",
    }


def write(folder: Path, plain: Any) -> Path:
    path = folder / "wdbc" / "scoring.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain))
    return folder


def test_a_suite_that_requires_rows_columns_and_values_is_read(
    tmp_path: Path, wdbc: Problem, plain: dict[str, Any]
) -> None:
    suite = read_suite(wdbc, "scoring", write(tmp_path, plain))
    assert suite.name == "wdbc_scoring"
    assert suite.declared == tuple(plain["expectations"])
    assert suite.notes == ("as little as may be",)
    assert len(suite.sha256) == 64


def test_missing_file_is_named(tmp_path: Path, wdbc: Problem) -> None:
    with pytest.raises(SuiteBroken, match=r"no suite .*labelled\.json"):
        read_suite(wdbc, "labelled", tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"name": "wdbc_scoring",}'])
def test_bad_json_is_refused(text: str, tmp_path: Path, wdbc: Problem) -> None:
    with pytest.raises(SuiteBroken, match="not valid JSON"):
        read_suite(wdbc, "scoring", write(tmp_path, text))


@pytest.mark.parametrize("text", ["[]", "{}", '{"expectations": {}}', "null"])
def test_json_that_is_not_a_suite_is_refused(text: str, tmp_path: Path, wdbc: Problem) -> None:
    with pytest.raises(SuiteBroken, match="not an object with a list of expectations"):
        read_suite(wdbc, "scoring", write(tmp_path, text))


def test_empty_suite_is_refused(tmp_path: Path, wdbc: Problem, plain: dict[str, Any]) -> None:
    with pytest.raises(SuiteBroken, match="declares no expectation"):
        read_suite(wdbc, "scoring", write(tmp_path, plain | {"expectations": []}))


def test_every_fault_of_the_structure_is_listed(
    tmp_path: Path, wdbc: Problem, plain: dict[str, Any]
) -> None:
    repeated = entry("expect_column_values_to_be_unique", column="id")
    plain["name"] = "wdbc_labelled"
    plain["expectations"] = [
        {"type": "expect_column_values_to_be_unique"},
        repeated,
        repeated | {"severity": "info"},
        entry("expect_column_to_exist", column="id") | {"mostly": 0.5},
    ]
    with pytest.raises(SuiteBroken) as caught:
        read_suite(wdbc, "scoring", write(tmp_path, plain))
    for fault in (
        "its name is not 'wdbc_scoring'",
        "expectation 1 has no type and kwargs",
        "expectation 3 (expect_column_values_to_be_unique) is declared twice",
        "expectation 3 has a severity that is neither critical nor warning",
        "expectation 4 has unknown fields mostly",
    ):
        assert fault in str(caught.value)
    assert caught.value.suite == "wdbc_scoring"


def weaken(plain: dict[str, Any], position: int, **changes: Any) -> dict[str, Any]:
    entries = list(plain["expectations"])
    old = entries[position]
    entries[position] = old | {
        "severity": changes.pop("severity", "critical"),
        "kwargs": old["kwargs"] | changes,
    }
    return plain | {"expectations": entries}


@pytest.mark.parametrize(
    ("position", "changes", "fault"),
    [
        (0, {"exact_match": False}, "does not require the exact set of columns"),
        (0, {"severity": "warning"}, "does not require the exact set of columns"),
        (1, {"min_value": 0}, "does not require at least one row"),
        (1, {"min_value": None, "max_value": 9}, "does not require at least one row"),
        (2, {"mostly": 0.9}, "lets values of mean_radius be missing"),
        (3, {"severity": "warning"}, "lets values of mean_texture be missing"),
    ],
)
def test_a_suite_that_would_pass_without_rows_or_values_is_refused(
    position: int,
    changes: dict[str, Any],
    fault: str,
    tmp_path: Path,
    wdbc: Problem,
    plain: dict[str, Any],
) -> None:
    with pytest.raises(SuiteBroken, match=fault):
        read_suite(wdbc, "scoring", write(tmp_path, weaken(plain, position, **changes)))


def test_table_has_key_features_and_label(
    wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, codes = reference
    frame = build_frame(wdbc, values[:3], ["a", "b", "c"], codes[:3])
    assert list(frame.columns) == ["id", *wdbc.schema.names, "diagnosis"]
    assert np.array_equal(frame[list(wdbc.schema.names)].to_numpy(), values[:3])
    assert "diagnosis" not in build_frame(wdbc, values[:3], ["a", "b", "c"], None)


def test_rule_columns_agree_with_the_rules_of_the_schema(
    wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    """Row by row, the column of a rule breaks its bounds exactly where the rule is broken."""
    rng = np.random.default_rng(5)
    values = reference[0] * rng.choice([0.0, 0.1, 1.0, 10.0], reference[0].shape)
    frame = add_rule_columns(build_frame(wdbc, values, ["k"] * len(values), None), wdbc.schema)
    checked = 0
    for rule in wdbc.schema.rules:
        name = rule_column(rule)
        if name is None:
            assert rule.kind == "at_least"
            continue
        column = frame[name].to_numpy()
        holds = np.isnan(column) | (
            (column >= rule.low) & (column <= rule.high) if rule.kind == "ratio" else column == 1
        )
        broken = rule.broken(frame[rule.left].to_numpy(), frame[rule.right].to_numpy())
        assert np.array_equal(~holds, broken)
        assert 0 < broken.sum() < len(broken)
        checked += 1
    assert checked == 7


def test_rule_columns_are_null_where_an_operand_is_missing(wdbc: Problem) -> None:
    frame = pd.DataFrame(
        {
            "mean_radius": [1.0, np.nan, 0.0, 2.0],
            "mean_area": ["3.14", "3.14", "3.14", "much"],
            "mean_concavity": [0.0, np.nan, 0.0, 1.0],
            "mean_concave_points": [0.0, 0.0, 1.0, np.nan],
        }
    )
    made = add_rule_columns(frame, wdbc.schema)
    assert set(made.columns) - set(frame.columns) == {
        "rule_mean_area_of_radius",
        "rule_mean_concavity_zero_with_points",
    }
    assert made["rule_mean_area_of_radius"].isna().tolist() == [False, True, True, True]
    assert made["rule_mean_concavity_zero_with_points"].tolist()[::2] == [1.0, 0.0]
    assert made["rule_mean_concavity_zero_with_points"].isna().tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_at_least_needs_no_column() -> None:
    assert rule_column(RowRule("r", "at_least", "a", "b")) is None


def test_digest_depends_on_names_types_values_and_order() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]})
    others = [
        frame.rename(columns={"a": "c"}),
        frame.assign(a=[1, 2]),
        frame.assign(a=[1.0, np.nextafter(2.0, 3.0)]),
        frame.assign(b=["x", "None"]),
        frame.iloc[::-1],
        frame[["b", "a"]],
    ]
    digests = {frame_digest(each) for each in [frame, *others]}
    assert len(digests) == 7
    assert frame_digest(frame.copy()) == frame_digest(frame)


def test_committed_suites_are_read(wdbc: Problem) -> None:
    folder = Settings().expectations_dir
    assert len(read_suite(wdbc, "labelled", folder).declared) > 200
    assert len(read_suite(wdbc, "scoring", folder).declared) > 100
