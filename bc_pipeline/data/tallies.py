"""A scoring suite counted portion by portion, so that the counts of many machines add up.

Great Expectations wants the whole table in one place. Every expectation that a scoring suite
holds is one of few kinds whose counts can be added; a suite with another kind is refused
before anything is read, never counted in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bc_pipeline.data.findings import checkable
from bc_pipeline.data.outcomes import Outcome, outcome_of
from bc_pipeline.data.suites import (
    COLUMNS,
    NOT_NULL,
    ROW_COUNT,
    SuiteFile,
    table,
    with_rule_columns,
)
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems import get_problem
from bc_pipeline.schema import ID_COLUMN

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_BETWEEN = "expect_column_values_to_be_between"
_IN_SET = "expect_column_values_to_be_in_set"
_UNIQUE = "expect_column_values_to_be_unique"
_OF_TYPE = "expect_column_values_to_be_of_type"
_ABOVE = "expect_column_pair_values_a_to_be_greater_than_b"
_ARGUMENTS = {
    COLUMNS: {"column_set"},
    ROW_COUNT: {"min_value", "max_value"},
    NOT_NULL: {"column"},
    _BETWEEN: {"column", "min_value", "max_value"},
    _IN_SET: {"column", "value_set"},
    _UNIQUE: {"column"},
    _OF_TYPE: {"column", "type_"},
    _ABOVE: {"column_A", "column_B", "or_equal"},
}

Counts = list[dict[str, Any]]
"""What was found so far, one entry for each expectation of the suite, as JSON values."""


def require_countable(suite: SuiteFile) -> None:
    """Make sure that a suite can be counted as a whole.

    Raises
    ------
    SuiteBroken
        Naming every expectation that cannot.
    """
    faults = [
        f"expectation {position} ({entry['type']})"
        for position, entry in enumerate(suite.declared, start=1)
        if not _is_countable(entry["type"], entry["kwargs"])
    ]
    if faults:
        raise SuiteBroken(
            f"Suite {suite.name} cannot be counted in portions: {'; '.join(faults)}.",
            "Score with the engine `local`, or ask for it in another way.",
            suite=suite.name,
        )


def _is_countable(kind: str, kwargs: Mapping[str, Any]) -> bool:
    return set(kwargs) <= _ARGUMENTS.get(kind, set()) and (
        kind != _UNIQUE or kwargs.get("column") == ID_COLUMN
    )


def asks_unique_ids(suite: SuiteFile) -> bool:
    """Whether the suite wants each id once; that is counted where all ids come together."""
    return any(entry["type"] == _UNIQUE for entry in suite.declared)


class Tally:
    """Counts what a suite finds in rows that are given in portions.

    Parameters
    ----------
    suite : SuiteFile
        Of a problem that the package knows; see `require_countable`.

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
        """Add rows.

        Parameters
        ----------
        names : sequence of str, length n
            Their ids.
        values : array of float64, shape (n, n_features)
            In schema order.
        """
        frame = with_rule_columns(table(self._problem, values, names, None), self._problem.schema)
        found = [
            _found(entry["type"], entry["kwargs"], frame)
            if checkable(entry["type"], entry["kwargs"], frame)
            else {"unchecked": True}
            for entry in self._suite.declared
        ]
        self.add(len(frame), found)

    def add(self, rows: int, counts: Counts) -> None:
        """Add what another tally of the same suite counted."""
        self.rows += rows
        for mine, other in zip(self.counts, counts, strict=True):
            for name, value in other.items():
                adds = name.endswith("_count")
                mine[name] = mine.get(name, 0) + value if adds else value

    def outcome(self, repeated: int) -> Outcome:
        """What the suite found in all rows.

        Parameters
        ----------
        repeated : int
            How many rows have an id that another row has too.
        """
        results = []
        for entry, counted in zip(self._suite.declared, self.counts, strict=True):
            kind, result = entry["type"], dict(counted)
            if kind == ROW_COUNT:
                result = {"observed_value": self.rows}
            elif kind == _UNIQUE:
                result = {"element_count": self.rows, "unexpected_count": repeated}
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
        return outcome_of(tuple(results))


def _found(kind: str, kwargs: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    if kind == COLUMNS:
        return {"observed_value": sorted(frame.columns)}
    if kind in (ROW_COUNT, _UNIQUE):
        return {}
    if kind == _OF_TYPE:
        return {"observed_value": str(frame[kwargs["column"]].dtype)}
    return {"element_count": len(frame), "unexpected_count": int(_wrong(kind, kwargs, frame).sum())}


def _wrong(kind: str, kwargs: Mapping[str, Any], frame: pd.DataFrame) -> Any:
    """Which rows are not as asked; a null is only for those that ask for none."""
    if kind == _ABOVE:
        upper, lower = frame[kwargs["column_A"]], frame[kwargs["column_B"]]
        holds = upper >= lower if kwargs.get("or_equal") else upper > lower
        return ~holds & ~(upper.isna() & lower.isna())
    cells = frame[kwargs["column"]]
    if kind == NOT_NULL:
        return cells.isna()
    if kind == _IN_SET:
        return ~cells.isin(kwargs["value_set"]) & cells.notna()
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    wrong = cells.isna() & False
    if low is not None:
        wrong |= cells < low
    if high is not None:
        wrong |= cells > high
    return wrong


def _holds(kind: str, kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    if kind == COLUMNS:
        return set(result["observed_value"]) == set(kwargs["column_set"])
    if kind == _OF_TYPE:
        return bool(result["observed_value"] == kwargs["type_"])
    if kind == ROW_COUNT:
        low, high = kwargs.get("min_value"), kwargs.get("max_value")
        rows = result["observed_value"]
        return (low is None or rows >= low) and (high is None or rows <= high)
    return not result["unexpected_count"]
