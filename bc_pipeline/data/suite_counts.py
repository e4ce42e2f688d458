"""A scoring suite judged by counts of each column, which add up over portions of a table.

Great Expectations needs the whole table in one process, and .75 s for every portion of it. The
expectations of scoring suites are of a few types whose counts can be added, so that rows are judged
as they stream, on one machine or on many. The results are those that the library gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bc_pipeline.data import suites
from bc_pipeline.data.countable_expectations import COLUMN_TYPE
from bc_pipeline.data.suite_result import SuiteResult, summarize_results
from bc_pipeline.data.suites import SuiteFile, rule_column, rule_values
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems import get_problem
from bc_pipeline.schema import FeatureSchema

Counts = list[dict[str, Any]]
"""Counts so far as JSON values, one entry for each expectation of the suite."""


class SuiteCounter:
    """Counts the rows that break each expectation of a suite, portion by portion.

    Ids are not compared: the rows of repeated ids are rejected before.

    Parameters
    ----------
    suite : SuiteFile
        One that `require_countable` accepts.

    Attributes
    ----------
    rows : int
    counts : Counts
    """

    def __init__(self, suite: SuiteFile) -> None:
        self._schema = get_problem(suite.problem).schema
        self._suite = suite
        self.rows = 0
        names = _column_names(self._schema)
        self.counts: Counts = [_no_rows(entry, names) for entry in suite.declared]
        # The others have one result whatever the rows are.
        self._counted = [
            (counts, entry["type"], entry["kwargs"])
            for counts, entry in zip(self.counts, suite.declared, strict=True)
            if "unexpected_count" in counts and entry["kwargs"].get("column") != ID_COLUMN
        ]

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None:
        """Count rows.

        Parameters
        ----------
        names : sequence of str, length n
            Ids of the rows; every row has one.
        values : array of float64, shape (n, n_features)
            In schema order; fastest where columns are contiguous.
        """
        if not len(values):
            return
        columns = _Columns(self._schema, values)
        for counts, kind, kwargs in self._counted:
            broken, missing = _broken(kind, kwargs, columns)
            counts["unexpected_count"] += broken
            counts["missing_count"] += missing
        self.rows += len(values)

    def add(self, rows: int, counts: Counts) -> None:
        """Add the counts of another counter of the same suite."""
        self.rows += rows
        for mine, other in zip(self.counts, counts, strict=True):
            for name in mine:
                if name.endswith("_count"):
                    mine[name] += other[name]

    def suite_result(self) -> SuiteResult:
        """The result of the suite on all rows."""
        results = []
        for entry, counted in zip(self._suite.declared, self.counts, strict=True):
            result = _result(entry["type"], counted, self.rows)
            results.append(
                {
                    "type": entry["type"],
                    "kwargs": entry["kwargs"],
                    "severity": entry.get("severity", "critical"),
                    "success": bool(result) and _holds(entry["type"], entry["kwargs"], result),
                    "result": result,
                }
            )
        return summarize_results(tuple(results))


def _column_names(schema: FeatureSchema) -> set[str]:
    rules = {rule_column(rule) for rule in schema.rules} - {None}
    return {ID_COLUMN, *schema.names, *(name for name in rules if name)}


def _no_rows(entry: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """What an expectation has counted before the first row."""
    kwargs = entry["kwargs"]
    needed = {kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs}
    if entry["type"] == suites.COLUMNS:
        return {"observed_value": sorted(names)}
    if entry["type"] == suites.ROW_COUNT:
        return {}
    if not needed <= names:
        return {"unchecked": True}
    if entry["type"] == suites.OF_TYPE:
        return {"observed_value": COLUMN_TYPE}
    return {"unexpected_count": 0, "missing_count": 0}


class _Columns:
    """The columns of some rows that suites check: features and row rules, without the id."""

    def __init__(self, schema: FeatureSchema, values: np.ndarray) -> None:
        self.rows = len(values)
        self._columns = dict(zip(schema.names, values.T, strict=True))
        self._rules = {name: rule for rule in schema.rules if (name := rule_column(rule))}
        ends = zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True)
        self._ranges = dict(zip(schema.names, ends, strict=True))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            rule = self._rules[name]
            left, right = self._columns[rule.left], self._columns[rule.right]
            self._columns[name] = rule_values(rule, left, right)
        cells: np.ndarray = self._columns[name]
        return cells

    def range(self, name: str) -> tuple[float, float]:
        """Smallest and largest value of a column; both NaN where a value is missing."""
        if name not in self._ranges:
            cells = self[name]
            self._ranges[name] = float(cells.min()), float(cells.max())
        return self._ranges[name]


def _broken(kind: str, kwargs: Mapping[str, Any], columns: _Columns) -> tuple[int, int]:
    """Number of rows that break an expectation, and of those that it does not judge."""
    if kind == suites.PAIR_ABOVE:
        upper, lower = columns[kwargs["column_A"]], columns[kwargs["column_B"]]
        holds = upper >= lower if kwargs.get("or_equal") else upper > lower
        held = int(np.count_nonzero(holds))
        missing = 0
        if held < columns.rows:
            missing = int(np.count_nonzero(np.isnan(upper) & np.isnan(lower)))
        return columns.rows - held - missing, missing
    name = kwargs["column"]
    least, greatest = columns.range(name)
    missing = int(np.count_nonzero(np.isnan(columns[name]))) if math.isnan(least) else 0
    if kind == suites.NOT_NULL:
        return missing, 0
    if kind == suites.IN_SET:
        if least == greatest:
            return (0 if least in kwargs["value_set"] else columns.rows), 0
        outside = np.isin(columns[name], kwargs["value_set"], invert=True)
        return int(np.count_nonzero(outside)) - missing, missing
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if (low is None or least >= low) and (high is None or greatest <= high):
        return 0, missing
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    cells = columns[name]
    return int(np.count_nonzero((cells < low) | (cells > high))), missing


def _result(kind: str, counted: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The result of an expectation as Great Expectations words it, without lists of values."""
    if kind == suites.ROW_COUNT:
        return {"observed_value": rows}
    if not rows or counted.get("unchecked"):
        return {}
    if "observed_value" in counted:
        return dict(counted)
    broken, missing = counted.get("unexpected_count", 0), counted.get("missing_count", 0)
    judged = _percent(broken, rows - missing)
    result = {
        "element_count": rows,
        "unexpected_count": broken,
        "unexpected_percent": judged,
        "partial_unexpected_list": [],
    }
    if kind == suites.NOT_NULL:
        return result
    return result | {
        "missing_count": missing,
        "missing_percent": _percent(missing, rows),
        "unexpected_percent_total": _percent(broken, rows),
        "unexpected_percent_nonmissing": judged,
    }


def _percent(part: int, whole: int) -> float | None:
    return part / whole * 100 if whole else None


def _holds(kind: str, kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    if kind == suites.COLUMNS:
        return set(result["observed_value"]) == set(kwargs["column_set"])
    if kind == suites.OF_TYPE:
        return bool(result["observed_value"] == kwargs["type_"])
    if kind == suites.ROW_COUNT:
        low, high = kwargs.get("min_value"), kwargs.get("max_value")
        rows = result["observed_value"]
        return (low is None or rows >= low) and (high is None or rows <= high)
    return not result["unexpected_count"]
