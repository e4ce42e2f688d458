"""Failed expectations in words, and which expectations a table allows to check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bc_pipeline.data import suites
from bc_pipeline.errors import counted

if TYPE_CHECKING:
    import pandas as pd

_OBSERVED = {
    "expect_column_median_to_be_between": "median",
    "expect_column_mean_to_be_between": "mean",
    "expect_column_stdev_to_be_between": "standard deviation",
    "expect_column_unique_value_count_to_be_between": "number of distinct values",
    suites.ROW_COUNT: "number of rows",
}
_NUMERIC = {
    suites.BETWEEN,
    suites.PAIR_ABOVE,
    "expect_column_median_to_be_between",
    "expect_column_mean_to_be_between",
    "expect_column_stdev_to_be_between",
}


def can_check(kind: str, kwargs: Mapping[str, Any], frame: pd.DataFrame) -> bool:
    """Whether a table has the columns that an expectation needs, as numbers where it needs those.

    Great Expectations would raise an error for each such expectation and evaluate all others
    again: thirty columns of strings take ten seconds.
    """
    columns = _columns(kwargs)
    compared = _compared_column(kwargs.get("row_condition"))
    if not {*columns, *((compared,) if compared else ())} <= set(frame.columns):
        return False
    return kind not in _NUMERIC or all(frame[name].dtype.kind in "biuf" for name in columns)


def _columns(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("column", "column_A", "column_B")
    return tuple(kwargs[name] for name in names if kwargs.get(name) is not None)


def _compared_column(condition: Any) -> str | None:
    """Column of a row condition that compares one with a value; None for other forms."""
    if isinstance(condition, Mapping) and condition.get("type") == "comparison":
        return str(condition["column"]["name"])
    return None


@dataclass(frozen=True)
class FailedExpectation:
    """One expectation that failed.

    Attributes
    ----------
    columns : tuple of str
        Columns of the expectation; for the set of columns, those missing or unexpected.
    text : str
        Description of the failure, without values of rows.
    """

    type: str
    columns: tuple[str, ...]
    text: str


def describe_failure(
    kind: str, kwargs: Mapping[str, Any], result: Mapping[str, Any]
) -> FailedExpectation:
    """Describe a failed expectation.

    Parameters
    ----------
    kind : str
        Type of the expectation.
    kwargs : mapping
        From the suite.
    result : mapping
        Empty where the expectation could not be checked.
    """
    if kind == suites.COLUMNS and result:
        expected, observed = set(kwargs["column_set"]), set(result["observed_value"])
        missing, unexpected = sorted(expected - observed), sorted(observed - expected)
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unexpected {', '.join(unexpected)}"] if unexpected else []
        return FailedExpectation(kind, (*missing, *unexpected), f"columns: {'; '.join(parts)}")
    columns = _columns(kwargs)
    subject = columns[0] if columns else "table"
    condition = kwargs.get("row_condition")
    if condition is not None:
        subject += f" where {_condition(condition)}"
    return FailedExpectation(kind, columns, f"{subject}: {_describe_result(kind, kwargs, result)}")


def _condition(condition: Any) -> str:
    column = _compared_column(condition)
    if column is None:
        return "its row condition holds"
    return f"{column} {condition['operator']} {condition['parameter']}"


def _describe_result(kind: str, kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    expectation = kind.removeprefix("expect_").replace("_", " ")
    if not result and kind == suites.PAIR_ABOVE:
        return f"could not be compared with {kwargs['column_B']}"
    if not result:
        return f"could not be checked ({expectation})"
    if kind in _OBSERVED:
        observed = result.get("observed_value")
        shown = "not defined" if observed is None else _number(observed)
        return f"{_OBSERVED[kind]} is {shown}, {_violated_bounds(kwargs)}"
    if kind == suites.OF_TYPE:
        return f"type is {result.get('observed_value')}, not {kwargs['type_']}"
    count, total = result.get("unexpected_count"), result.get("element_count")
    rows = f"{count} of {counted(total or 0, 'value')}"
    if kind == suites.NOT_NULL:
        return f"{rows} are missing"
    if kind == suites.BETWEEN:
        return f"{rows} are {_violated_bounds(kwargs)}"
    if kind == suites.IN_SET:
        return f"{rows} are not one of {', '.join(map(_number, kwargs['value_set']))}"
    if kind == suites.UNIQUE:
        return f"{rows} are not unique"
    if kind == suites.PAIR_ABOVE:
        return f"{rows} are below {kwargs['column_B']}"
    return expectation if count is None else f"{expectation}: {rows} are not"


def _violated_bounds(kwargs: Mapping[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if high is None:
        return f"below {_number(low)}"
    if low is None:
        return f"above {_number(high)}"
    return f"outside {_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
