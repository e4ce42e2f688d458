"""A scoring suite judged by counts of each column, which add up over portions of a table.

Great Expectations needs the whole table in one process, and .75 s for every portion of it. The
expectations of scoring suites are of a few types whose counts can be added, so that rows are judged
as they stream, on one machine or on many. The results are those that the library gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bc_pipeline.data import suites
from bc_pipeline.data.suite_result import SuiteResult, summarize_results
from bc_pipeline.data.suites import SuiteFile, rule_column, rule_values
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems import get_problem
from bc_pipeline.schema import ID_COLUMN, FeatureSchema

_BOUNDS = {"min_value", "max_value"}
# Columns of features and row rules have this type, whatever the file had.
_COLUMN_TYPE = "float64"

Counts = list[dict[str, Any]]
"""Counts so far as JSON values, one entry for each expectation of the suite."""


def require_countable(suite: SuiteFile) -> None:
    """Make sure that every expectation of a suite can be counted.

    Raises
    ------
    SuiteBroken
        Lists every expectation that cannot.
    """
    faults = [
        f"expectation {position} ({entry['type']})"
        for position, entry in enumerate(suite.declared, start=1)
        if not is_countable(entry)
    ]
    if faults:
        raise SuiteBroken(
            f"Suite {suite.name} cannot be counted in portions: {'; '.join(faults)}.",
            "Score with the engine `local`, or replace these expectations.",
            suite=suite.name,
        )


def is_countable(entry: Mapping[str, Any]) -> bool:
    """Whether counts judge an expectation; one with arguments beyond the plain ones they do not."""
    kwargs = entry["kwargs"]
    fits = _FITS.get(entry["type"])
    return fits is not None and fits(kwargs)


def _names_column(kwargs: Mapping[str, Any]) -> bool:
    return set(kwargs) == {"column"} and isinstance(kwargs["column"], str)


def _has_bounds(kwargs: Mapping[str, Any]) -> bool:
    """Whether bounds are numbers, at least one, and in order: others the library refuses."""
    bounds = [kwargs[name] for name in sorted(_BOUNDS) if kwargs.get(name) is not None]
    if not bounds or not all(map(_is_number, bounds)):
        return False
    return len(bounds) < len(_BOUNDS) or bool(kwargs["min_value"] <= kwargs["max_value"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _is_between(kwargs: Mapping[str, Any]) -> bool:
    return (
        set(kwargs) <= {"column", *_BOUNDS}
        and isinstance(kwargs.get("column"), str)
        and kwargs["column"] != ID_COLUMN
        and _has_bounds(kwargs)
    )


def _is_in_set(kwargs: Mapping[str, Any]) -> bool:
    values = kwargs.get("value_set")
    return (
        set(kwargs) == {"column", "value_set"}
        and isinstance(kwargs["column"], str)
        and kwargs["column"] != ID_COLUMN
        and isinstance(values, list)
        and bool(values)
        and all(map(_is_number, values))
    )


def _is_pair(kwargs: Mapping[str, Any]) -> bool:
    columns = {kwargs.get("column_A"), kwargs.get("column_B")}
    return (
        set(kwargs) <= {"column_A", "column_B", "or_equal"}
        and all(isinstance(name, str) and name != ID_COLUMN for name in columns)
        and isinstance(kwargs.get("or_equal", False), bool)
    )


_FITS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    suites.COLUMNS: lambda kwargs: (
        set(kwargs) == {"column_set"}
        and isinstance(kwargs["column_set"], list)
        and all(isinstance(name, str) for name in kwargs["column_set"])
    ),
    suites.ROW_COUNT: lambda kwargs: set(kwargs) <= _BOUNDS and _has_bounds(kwargs),
    suites.NOT_NULL: _names_column,
    suites.BETWEEN: _is_between,
    suites.IN_SET: _is_in_set,
    suites.UNIQUE: lambda kwargs: _names_column(kwargs) and kwargs["column"] == ID_COLUMN,
    suites.OF_TYPE: lambda kwargs: (
        set(kwargs) == {"column", "type_"}
        and kwargs["column"] != ID_COLUMN
        and kwargs["type_"] == _COLUMN_TYPE
    ),
    suites.PAIR_ABOVE: _is_pair,
}


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
        self.counts: Counts = [{} for _ in suite.declared]

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None:
        """Count rows.

        Parameters
        ----------
        names : sequence of str, length n
            Ids of the rows; every row has one.
        values : array of float64, shape (n, n_features)
            In schema order; fastest where columns are contiguous.
        """
        columns = _Columns(self._schema, values)
        counts = [_count(entry["type"], entry["kwargs"], columns) for entry in self._suite.declared]
        self.add(len(values), counts)

    def add(self, rows: int, counts: Counts) -> None:
        """Add the counts of another counter of the same suite."""
        self.rows += rows
        for mine, other in zip(self.counts, counts, strict=True):
            for name, value in other.items():
                mine[name] = mine.get(name, 0) + value if name.endswith("_count") else value

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


class _Columns:
    """The columns of some rows that suites check: features and row rules, without the id."""

    def __init__(self, schema: FeatureSchema, values: np.ndarray) -> None:
        self.rows = len(values)
        self._features = dict(zip(schema.names, values.T, strict=True))
        self._rules = {name: rule for rule in schema.rules if (name := rule_column(rule))}
        self._ranges: dict[str, tuple[float, float]] = {}

    @property
    def names(self) -> set[str]:
        return {*self._features, *self._rules}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._features:
            rule = self._rules[name]
            left, right = self._features[rule.left], self._features[rule.right]
            self._features[name] = rule_values(rule, left, right)
        cells: np.ndarray = self._features[name]
        return cells

    def range(self, name: str) -> tuple[float, float]:
        """Smallest and largest value of a column; both NaN where a value is missing."""
        if name not in self._ranges:
            cells = self[name]
            self._ranges[name] = float(cells.min()), float(cells.max())
        return self._ranges[name]

    def has_nulls(self, name: str) -> bool:
        return bool(self.rows) and np.isnan(self.range(name)[0])


def _count(kind: str, kwargs: Mapping[str, Any], columns: _Columns) -> dict[str, Any]:
    """What one expectation counts in some rows; empty where the number of rows says it all."""
    needed = {kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs}
    if kind == suites.COLUMNS:
        return {"observed_value": sorted({ID_COLUMN, *columns.names})}
    if not needed <= {ID_COLUMN, *columns.names}:
        return {"unchecked": True}
    if kind == suites.OF_TYPE:
        return {"observed_value": _COLUMN_TYPE}
    if not columns.rows or needed <= {ID_COLUMN}:
        return {}
    broken, missing = _broken(kind, kwargs, columns)
    return {"unexpected_count": broken, "missing_count": missing}


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
    cells = columns[name]
    missing = int(np.count_nonzero(np.isnan(cells))) if columns.has_nulls(name) else 0
    if kind == suites.NOT_NULL:
        return missing, 0
    if kind == suites.IN_SET:
        outside = np.isin(cells, kwargs["value_set"], invert=True)
        return int(np.count_nonzero(outside)) - missing, missing
    low, high = (kwargs.get(name) for name in ("min_value", "max_value"))
    least, greatest = columns.range(name)
    if (low is None or least >= low) and (high is None or greatest <= high):
        return 0, missing
    low, high = -np.inf if low is None else low, np.inf if high is None else high
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
