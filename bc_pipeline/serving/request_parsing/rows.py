"""Parses many rows of one request in bounded time; every defect has its row and feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bc_pipeline.errors import BodyTooLarge, Defect
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.serving.request_parsing.defects import mismatch_at, schema_mismatch
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.serving.request_parsing.json_members import parse_json
from bc_pipeline.tables.checks import RowDefects

ROW_LIMIT = 10_000
# Values in a body: those of the rows and of some more columns. A comma takes a byte, the value
# after it may take a hundred.
VALUE_LIMIT = 350_000
MAX_LISTED = 100
# Text with characters beyond ASCII can take four times its size in memory.
_WIDE_BYTES = 4 * 1024 * 1024
_ROWS_CHECKED = 1000
_FLOATS = {float}


def parse_values(text: bytes) -> Any:
    """Parse JSON, as `parse_json`, in bounded memory.

    Raises
    ------
    BodyTooLarge
        Where it has more values than the maximum number of rows.
    BodyUnreadable
    """
    require_value_count(text.count(b","))
    if len(text) > _WIDE_BYTES and not text.isascii():
        raise BodyTooLarge(
            f"JSON of more than {_WIDE_BYTES} bytes must be plain ASCII.", limit=_WIDE_BYTES
        )
    return parse_json(text)


def require_value_count(count: int) -> None:
    """Refuse more values than the maximum number of rows has.

    Raises
    ------
    BodyTooLarge
    """
    if count > VALUE_LIMIT:
        raise BodyTooLarge(f"The body may hold {VALUE_LIMIT} values.", limit=VALUE_LIMIT)


def require_row_count(count: int, where: str) -> None:
    """Refuse an empty table, and one of too many rows.

    Raises
    ------
    SchemaMismatch
    """
    if not 1 <= count <= ROW_LIMIT:
        raise mismatch_at(where, f"must hold 1 to {ROW_LIMIT} rows")


def to_array(
    rows: Iterable[Sequence[Any]], names: Sequence[str], defects: RowDefects
) -> np.ndarray:
    """Cells of parsed JSON in schema order as numbers; array of float64, shape (n, n_features).

    NaN, and a defect, for a cell that is no number.
    """
    numbers: list[Sequence[float]] = []
    for row, cells in enumerate(rows):
        if set(map(type, cells)) == _FLOATS:
            numbers.append(cells)
            continue
        for name, cell in zip(names, cells, strict=True):
            if type(cell) is not float:
                defects.add((row,), name, "is missing" if cell is None else "is not a number")
        numbers.append([cell if type(cell) is float else np.nan for cell in cells])
    return np.array(numbers, dtype=np.float64)


def to_samples(schema: FeatureSchema, values: np.ndarray, defects: RowDefects) -> list[Sample]:
    """The rows as samples.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        NaN where `defects` already has a defect.

    Raises
    ------
    SchemaMismatch
        Where any row has a defect; then no row is answered.
    """
    for start in range(0, len(values), _ROWS_CHECKED):
        if defects.is_full:
            break
        defects.check_values(schema, values[start : start + _ROWS_CHECKED], start)
    if defects.count:
        # Clients count rows from 1.
        listed = [
            Defect(f"in row {row + 1} {defect.reason}", column=defect.column)
            for row, row_defects in defects.by_row().items()
            for defect in row_defects
        ]
        raise schema_mismatch(listed, defects.count)
    return [Sample(tuple(row)) for row in values.tolist()]
