"""Which expectations are judged by counts of rows that add up (`bc_pipeline.data.suite_counts`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bc_pipeline.data import suites
from bc_pipeline.data.suites import SuiteFile
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.names import ID_COLUMN

# Columns of features and row rules have this type, whatever the file had.
COLUMN_TYPE = "float64"
_BOUNDS = {"min_value", "max_value"}


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
        and kwargs["type_"] == COLUMN_TYPE
    ),
    suites.PAIR_ABOVE: _is_pair,
}
