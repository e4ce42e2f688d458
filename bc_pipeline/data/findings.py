"""Failed expectations in words, and those that a table gives no way to check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bc_pipeline.data.suites import COLUMNS, NOT_NULL, ROW_COUNT

if TYPE_CHECKING:
    import pandas as pd

_BETWEEN = "expect_column_values_to_be_between"
_ABOVE = "expect_column_pair_values_a_to_be_greater_than_b"
_OBSERVED = {
    "expect_column_median_to_be_between": "median",
    "expect_column_mean_to_be_between": "mean",
    "expect_column_stdev_to_be_between": "standard deviation",
    "expect_column_unique_value_count_to_be_between": "number of distinct values",
    ROW_COUNT: "number of rows",
}
_OF_NUMBERS = {
    _BETWEEN,
    _ABOVE,
    "expect_column_median_to_be_between",
    "expect_column_mean_to_be_between",
    "expect_column_stdev_to_be_between",
}


def checkable(kind: str, kwargs: Mapping[str, Any], frame: pd.DataFrame) -> bool:
    """Whether a table has the columns that an expectation is about, as numbers if need be.

    Great Expectations would find out by errors, and tries everything again after each:
    thirty columns of strings take it ten seconds.
    """
    columns = _columns(kwargs)
    condition = kwargs.get("row_condition")
    given = _compared(condition) if condition is not None else None
    if not {*columns, *((given,) if given else ())} <= set(frame.columns):
        return False
    return kind not in _OF_NUMBERS or all(frame[name].dtype.kind in "biuf" for name in columns)


def _columns(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    places = ("column", "column_A", "column_B")
    return tuple(kwargs[place] for place in places if kwargs.get(place) is not None)


def _compared(condition: Any) -> str | None:
    """Column of a row condition that compares one with a value; None for other forms."""
    if isinstance(condition, Mapping) and condition.get("type") == "comparison":
        return str(condition["column"]["name"])
    return None


@dataclass(frozen=True)
class Finding:
    """One expectation that failed.

    Attributes
    ----------
    columns : tuple of str
        The columns it is about; for the set of columns, those missing or unexpected.
    text : str
        What is wrong, in words, without any row's value.
    """

    type: str
    columns: tuple[str, ...]
    text: str


def describe(kind: str, kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> Finding:
    """Put a failed expectation into words.

    Parameters
    ----------
    kind : str
        Type of the expectation.
    kwargs : mapping
        As the suite declares them.
    result : mapping
        What was found; empty where the expectation could not be checked.
    """
    if kind == COLUMNS and result:
        asked, found = set(kwargs["column_set"]), set(result["observed_value"])
        missing, unexpected = sorted(asked - found), sorted(found - asked)
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unexpected {', '.join(unexpected)}"] if unexpected else []
        return Finding(kind, (*missing, *unexpected), f"columns: {'; '.join(parts)}")
    columns = _columns(kwargs)
    subject = columns[0] if columns else "table"
    condition = kwargs.get("row_condition")
    if condition is not None:
        subject += f" where {_condition(condition)}"
    return Finding(kind, columns, f"{subject}: {_words(kind, kwargs, result)}")


def _condition(condition: Any) -> str:
    column = _compared(condition)
    if column is None:
        return "its row condition holds"
    return f"{column} {condition['operator']} {condition['parameter']}"


def _words(kind: str, kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    asked = kind.removeprefix("expect_").replace("_", " ")
    if not result and kind == _ABOVE:
        return f"could not be compared with {kwargs['column_B']}"
    if not result:
        return f"could not be checked ({asked})"
    if kind in _OBSERVED:
        seen = result.get("observed_value")
        shown = "not defined" if seen is None else _number(seen)
        return f"{_OBSERVED[kind]} is {shown}, {_outside(kwargs)}"
    if kind == "expect_column_values_to_be_of_type":
        return f"type is {result.get('observed_value')}, not {kwargs['type_']}"
    count, total = result.get("unexpected_count"), result.get("element_count")
    rows = f"{count} of {total} values"
    if kind == NOT_NULL:
        return f"{rows} are missing"
    if kind == _BETWEEN:
        return f"{rows} are {_outside(kwargs)}"
    if kind == "expect_column_values_to_be_in_set":
        return f"{rows} are not one of {', '.join(map(_number, kwargs['value_set']))}"
    if kind == "expect_column_values_to_be_unique":
        return f"{rows} are not unique"
    if kind == _ABOVE:
        return f"{rows} are below {kwargs['column_B']}"
    return asked if count is None else f"{asked}: {rows} are not"


def _outside(kwargs: Mapping[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if high is None:
        return f"below {_number(low)}"
    if low is None:
        return f"above {_number(high)}"
    return f"outside {_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
