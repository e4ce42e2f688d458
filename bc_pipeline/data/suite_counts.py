"""A scoring suite evaluated by counts that can be added up over portions of a table.

Great Expectations needs the whole table in one process. The expectations of scoring suites are
of a few types whose counts can be added, so that many machines can each count their rows; a
suite with an expectation of another type is refused before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_pipeline.data import suites
from bc_pipeline.data.failed_expectations import can_check
from bc_pipeline.data.suite_result import SuiteResult, summarize_results
from bc_pipeline.data.suites import SuiteFile, add_rule_columns, build_frame
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems import get_problem
from bc_pipeline.schema import ID_COLUMN

if TYPE_CHECKING:
    import pandas as pd

_ARGUMENTS = {
    suites.COLUMNS: {"column_set"},
    suites.ROW_COUNT: {"min_value", "max_value"},
    suites.NOT_NULL: {"column"},
    suites.BETWEEN: {"column", "min_value", "max_value"},
    suites.IN_SET: {"column", "value_set"},
    suites.UNIQUE: {"column"},
    suites.OF_TYPE: {"column", "type_"},
    suites.PAIR_ABOVE: {"column_A", "column_B", "or_equal"},
}

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
        if not _is_countable(entry["type"], entry["kwargs"])
    ]
    if faults:
        raise SuiteBroken(
            f"Suite {suite.name} cannot be counted in portions: {'; '.join(faults)}.",
            "Score with the engine `local`, or replace these expectations.",
            suite=suite.name,
        )


def _is_countable(kind: str, kwargs: Mapping[str, Any]) -> bool:
    return set(kwargs) <= _ARGUMENTS.get(kind, set()) and (
        kind != suites.UNIQUE or kwargs.get("column") == ID_COLUMN
    )


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
        self._problem = get_problem(suite.problem)
        self._suite = suite
        self.rows = 0
        self.counts: Counts = [{} for _ in suite.declared]

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None:
        """Count rows.

        Parameters
        ----------
        names : sequence of str, length n
            Ids of the rows.
        values : array of float64, shape (n, n_features)
            In schema order.
        """
        frame = add_rule_columns(
            build_frame(self._problem, values, names, None), self._problem.schema
        )
        counts = [
            _count(entry["type"], entry["kwargs"], frame)
            if can_check(entry["type"], entry["kwargs"], frame)
            else {"unchecked": True}
            for entry in self._suite.declared
        ]
        self.add(len(frame), counts)

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
            kind, result = entry["type"], dict(counted)
            if kind == suites.ROW_COUNT:
                result = {"observed_value": self.rows}
            elif kind == suites.UNIQUE:
                result = {"element_count": self.rows, "unexpected_count": 0}
            elif not self.rows or result.pop("unchecked", False):
                result = {}
            results.append(
                {
                    "type": kind,
                    "kwargs": entry["kwargs"],
                    "severity": entry.get("severity", "critical"),
                    "success": bool(result) and _holds(kind, entry["kwargs"], result),
                    "result": result,
                }
            )
        return summarize_results(tuple(results))


def _count(kind: str, kwargs: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    if kind == suites.COLUMNS:
        return {"observed_value": sorted(frame.columns)}
    if kind in (suites.ROW_COUNT, suites.UNIQUE):
        return {}
    if kind == suites.OF_TYPE:
        return {"observed_value": str(frame[kwargs["column"]].dtype)}
    return {
        "element_count": len(frame),
        "unexpected_count": int(_broken(kind, kwargs, frame).sum()),
    }


def _broken(kind: str, kwargs: Mapping[str, Any], frame: pd.DataFrame) -> Any:
    """Rows that break an expectation; null breaks only an expectation of no nulls."""
    if kind == suites.PAIR_ABOVE:
        upper, lower = frame[kwargs["column_A"]], frame[kwargs["column_B"]]
        holds = upper >= lower if kwargs.get("or_equal") else upper > lower
        return ~holds & ~(upper.isna() & lower.isna())
    cells = frame[kwargs["column"]]
    if kind == suites.NOT_NULL:
        return cells.isna()
    if kind == suites.IN_SET:
        return ~cells.isin(kwargs["value_set"]) & cells.notna()
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    broken = cells.isna() & False
    if low is not None:
        broken |= cells < low
    if high is not None:
        broken |= cells > high
    return broken


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
