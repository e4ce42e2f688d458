"""Expectation suites as files, and the table they are checked on.

A suite is JSON in Great Expectations' own form, so a reviewer can read and edit it. What
that library lets pass in silence is refused here: a suite that is empty, says something
twice, or does not ask for rows, columns and values at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import ID_COLUMN, FeatureSchema, RowRule

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Purpose = Literal["labelled", "scoring"]
PURPOSES: tuple[Purpose, ...] = ("labelled", "scoring")

_ENTRY_FIELDS = {"type", "kwargs", "meta", "notes", "severity", "description"}
COLUMNS = "expect_table_columns_to_match_set"
ROW_COUNT = "expect_table_row_count_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"


@dataclass(frozen=True)
class SuiteFile:
    """A suite as its file declares it.

    Attributes
    ----------
    name : str
        Such as ``wdbc_labelled``.
    sha256 : str
        Of the file's bytes.
    declared : tuple of mapping
        The expectations, each with ``type`` and ``kwargs``, in the file's order.
    notes : tuple of str
        What the file says about itself.
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
        Naming everything that is wrong with the file.
    """
    path = expectations_dir / problem.name / f"{purpose}.json"
    name = f"{problem.name}_{purpose}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SuiteBroken(f"There is no suite {path}.", suite=name) from None
    try:
        plain = json.loads(data)
    except ValueError as error:
        raise SuiteBroken(f"Suite {name} is not valid JSON: {error}.", suite=name) from None
    faults = _form_faults(plain, name) or _content_faults(plain["expectations"], problem.schema)
    if faults:
        raise SuiteBroken(f"Suite {name} is broken: {'; '.join(faults)}.", suite=name)
    notes = plain.get("notes") or ()
    return SuiteFile(
        name=name,
        problem=problem.name,
        purpose=purpose,
        sha256=hashlib.sha256(data).hexdigest(),
        declared=tuple(plain["expectations"]),
        notes=(notes,) if isinstance(notes, str) else tuple(notes),
    )


def _form_faults(plain: Any, name: str) -> list[str]:
    """What keeps the file from being a suite at all."""
    if not isinstance(plain, dict) or not isinstance(plain.get("expectations"), list):
        return ["it is not an object with a list of expectations"]
    faults = []
    if plain.get("name") != name:
        faults.append(f"its name is not {name!r}")
    if not plain["expectations"]:
        faults.append("it declares no expectation")
    seen: set[str] = set()
    for position, entry in enumerate(plain["expectations"], start=1):
        place = f"expectation {position}"
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("type"), str)
            or not isinstance(entry.get("kwargs"), dict)
        ):
            faults.append(f"{place} has no type and kwargs")
            continue
        if unknown := sorted(set(entry) - _ENTRY_FIELDS):
            faults.append(f"{place} has unknown fields {', '.join(unknown)}")
        if entry.get("severity", "critical") not in ("critical", "warning"):
            faults.append(f"{place} has a severity that is neither critical nor warning")
        said = json.dumps([entry["type"], entry["kwargs"]], sort_keys=True)
        if said in seen:
            faults.append(f"{place} ({entry['type']}) is declared twice")
        seen.add(said)
    return faults


def _content_faults(entries: Sequence[Mapping[str, Any]], schema: FeatureSchema) -> list[str]:
    """What a suite must ask for, because most expectations pass on empty or null data."""
    critical = [entry for entry in entries if entry.get("severity", "critical") == "critical"]
    faults = []
    if not any(
        entry["type"] == COLUMNS and entry["kwargs"].get("exact_match", True) is True
        for entry in critical
    ):
        faults.append("it does not ask for the exact set of columns")
    if not any(
        entry["type"] == ROW_COUNT and (entry["kwargs"].get("min_value") or 0) >= 1
        for entry in critical
    ):
        faults.append("it does not ask for at least one row")
    whole = {
        entry["kwargs"].get("column")
        for entry in critical
        if entry["type"] == NOT_NULL and entry["kwargs"].get("mostly", 1) == 1
    }
    missing = [name for name in schema.names if name not in whole]
    if missing:
        faults.append(f"it lets values of {', '.join(missing)} be missing")
    return faults


def rule_column(rule: RowRule) -> str | None:
    """Name of the column that a row rule is checked on; None where it needs none."""
    return None if rule.kind == "at_least" else f"rule_{rule.name}"


def table(
    problem: Problem,
    values: np.ndarray,
    keys: Sequence[str],
    codes: np.ndarray | None,
) -> pd.DataFrame:
    """Rows as the table that suites are written for, without the rule columns.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        In schema order.
    keys : sequence of str, length n
    codes : array of int, shape (n,), or None
        Outside label codes; None where there are no labels.
    """
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame(np.asarray(values, dtype=np.float64), columns=list(problem.schema.names))
    frame.insert(0, ID_COLUMN, pd.Series(list(keys), dtype=object))
    if codes is not None:
        frame[problem.labels.column] = np.asarray(codes, dtype=np.int64)
    return frame


def with_rule_columns(frame: pd.DataFrame, schema: FeatureSchema) -> pd.DataFrame:
    """The table with one more column for each row rule that no expectation says natively.

    A ``ratio`` rule gives the ratio, a ``zero_together`` rule 1 where it holds and 0 where
    it does not. Null stands where the rule does not apply or an operand is missing or not
    a number; that is for the features' own expectations. A rule whose operand is not
    there gives no column.
    """
    import numpy as np
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
        if rule.kind == "ratio":
            columns[name] = np.where(right > 0, rule.ratio(left, right), np.nan)
        else:
            holds = (~rule.broken(left, right)).astype(np.float64)
            columns[name] = np.where(np.isnan(left) | np.isnan(right), np.nan, holds)
    return frame.assign(**columns)


def table_digest(frame: pd.DataFrame) -> str:
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
