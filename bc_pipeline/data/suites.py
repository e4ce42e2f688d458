"""Expectation suites as files, and the table they are checked on.

A suite is JSON in Great Expectations' own form. Suites that the library would accept but that
check too little are refused: empty ones, repeated expectations, and suites that do not require
rows, the exact columns and the absence of nulls.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bc_pipeline.errors import SuiteBroken
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems.base import Problem
from bc_pipeline.row_rule import RowRule
from bc_pipeline.schema import FeatureSchema

if TYPE_CHECKING:
    import pandas as pd

Purpose = Literal["labelled", "scoring"]
PURPOSES: tuple[Purpose, ...] = ("labelled", "scoring")

_ENTRY_FIELDS = {"type", "kwargs", "meta", "notes", "severity", "description"}
COLUMNS = "expect_table_columns_to_match_set"
ROW_COUNT = "expect_table_row_count_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
UNIQUE = "expect_column_values_to_be_unique"
OF_TYPE = "expect_column_values_to_be_of_type"
PAIR_ABOVE = "expect_column_pair_values_a_to_be_greater_than_b"


@dataclass(frozen=True)
class SuiteFile:
    """A suite as its file declares it.

    Attributes
    ----------
    name : str
        ``<problem>_labelled`` or ``<problem>_scoring``.
    sha256 : str
        Of the file's bytes.
    declared : tuple of mapping
        The expectations, each with ``type`` and ``kwargs``, in the order of the file.
    notes : tuple of str
        The file's own notes.
    """

    name: str
    problem: str
    purpose: Purpose
    sha256: str
    declared: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


def read_suite(problem: Problem, purpose: Purpose, expectations_dir: Path) -> SuiteFile:
    """Read ``<expectations_dir>/<problem>/<purpose>.json`` strictly.

    Raises
    ------
    SuiteBroken
        Lists every fault of the file.
    """
    path = expectations_dir / problem.name / f"{purpose}.json"
    name = f"{problem.name}_{purpose}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SuiteBroken(f"There is no suite {path}.", suite=name) from None
    try:
        document = json.loads(data)
    except ValueError as error:
        raise SuiteBroken(f"Suite {name} is not valid JSON: {error}.", suite=name) from None
    faults = _form_faults(document, name) or _content_faults(
        document["expectations"], problem.schema
    )
    if faults:
        raise SuiteBroken(f"Suite {name} is broken: {'; '.join(faults)}.", suite=name)
    notes = document.get("notes") or ()
    return SuiteFile(
        name=name,
        problem=problem.name,
        purpose=purpose,
        sha256=hashlib.sha256(data).hexdigest(),
        declared=tuple(document["expectations"]),
        notes=(notes,) if isinstance(notes, str) else tuple(notes),
    )


def _form_faults(document: Any, name: str) -> list[str]:
    """Faults of the file's structure."""
    if not isinstance(document, dict) or not isinstance(document.get("expectations"), list):
        return ["it is not an object with a list of expectations"]
    faults = []
    if document.get("name") != name:
        faults.append(f"its name is not {name!r}")
    if not document["expectations"]:
        faults.append("it declares no expectation")
    declared: set[str] = set()
    for position, entry in enumerate(document["expectations"], start=1):
        label = f"expectation {position}"
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("type"), str)
            or not isinstance(entry.get("kwargs"), dict)
        ):
            faults.append(f"{label} has no type and kwargs")
            continue
        if unknown := sorted(set(entry) - _ENTRY_FIELDS):
            faults.append(f"{label} has unknown fields {', '.join(unknown)}")
        if entry.get("severity", "critical") not in ("critical", "warning"):
            faults.append(f"{label} has a severity that is neither critical nor warning")
        expectation = json.dumps([entry["type"], entry["kwargs"]], sort_keys=True)
        if expectation in declared:
            faults.append(f"{label} ({entry['type']}) is declared twice")
        declared.add(expectation)
    return faults


def _content_faults(entries: Sequence[Mapping[str, Any]], schema: FeatureSchema) -> list[str]:
    """Required expectations that are missing; most others pass on empty or null data."""
    critical = [entry for entry in entries if entry.get("severity", "critical") == "critical"]
    faults = []
    if not any(
        entry["type"] == COLUMNS and entry["kwargs"].get("exact_match", True) is True
        for entry in critical
    ):
        faults.append("it does not require the exact set of columns")
    if not any(
        entry["type"] == ROW_COUNT and (entry["kwargs"].get("min_value") or 0) >= 1
        for entry in critical
    ):
        faults.append("it does not require at least one row")
    never_null = {
        entry["kwargs"].get("column")
        for entry in critical
        if entry["type"] == NOT_NULL and entry["kwargs"].get("mostly", 1) == 1
    }
    missing = [name for name in schema.names if name not in never_null]
    if missing:
        faults.append(f"it lets values of {', '.join(missing)} be missing")
    return faults


def rule_column(rule: RowRule) -> str | None:
    """Name of the column that a row rule is checked on; None for a rule on two features."""
    return None if rule.kind == "at_least" else f"rule_{rule.name}"


def rule_values(rule: RowRule, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The column of a row rule: a ``ratio`` rule's ratio, or 1 where the rule holds and else 0.

    NaN where the rule does not apply, or an operand is NaN: the features' own expectations report
    those.

    Parameters
    ----------
    left, right : array of float64, shape (n,)
    """
    if rule.kind == "ratio":
        return np.where(right > 0, rule.ratio(left, right), np.nan)
    holds = (~rule.broken(left, right)).astype(np.float64)
    return np.where(np.isnan(left) | np.isnan(right), np.nan, holds)


def build_frame(
    problem: Problem,
    values: np.ndarray,
    keys: Sequence[str],
    codes: np.ndarray | None,
) -> pd.DataFrame:
    """Make the table that suites check, without the columns of row rules.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        In schema order.
    keys : sequence of str, length n
    codes : array of int, shape (n,), or None
        Outside label codes; None where there are no labels.
    """
    import pandas as pd

    frame = pd.DataFrame(np.asarray(values, dtype=np.float64), columns=list(problem.schema.names))
    frame.insert(0, ID_COLUMN, pd.Series(list(keys), dtype=object))
    if codes is not None:
        frame[problem.labels.column] = np.asarray(codes, dtype=np.int64)
    return frame


def add_rule_columns(frame: pd.DataFrame, schema: FeatureSchema) -> pd.DataFrame:
    """Add a column for each row rule that no expectation can express.

    Its cells are those of `rule_values`. A rule gives no column where the table lacks one of its
    features.
    """
    import pandas as pd

    columns: dict[str, np.ndarray] = {}
    for rule in schema.rules:
        name = rule_column(rule)
        if name is None or not {rule.left, rule.right} <= set(frame.columns):
            continue
        left, right = (
            pd.to_numeric(frame[side], errors="coerce").to_numpy(np.float64)
            for side in (rule.left, rule.right)
        )
        columns[name] = rule_values(rule, left, right)
    return frame.assign(**columns)


def frame_digest(frame: pd.DataFrame) -> str:
    """SHA-256 over names, types and exact values, column by column."""
    digest = hashlib.sha256()
    for position, (name, kind) in enumerate(zip(frame.columns, frame.dtypes, strict=True)):
        column = frame.iloc[:, position]
        digest.update(f"\0{name}\0{kind}\0".encode())
        if kind.kind in "biuf":
            digest.update(column.to_numpy().tobytes())
        else:
            digest.update("\0".join(map(repr, column.tolist())).encode())
    return digest.hexdigest()
