"""Columns without a name of their own, which exports of data frames and spreadsheets add."""

from __future__ import annotations

from typing import Any

import numpy as np

_WHOLE = r"^[0-9]{1,15}(\.0*)?$"


def used_cells(cells: Any, rows: np.ndarray) -> np.ndarray:
    """Whether each cell holds something, neither nothing nor the next number of a running index.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)
        Position of each cell's row in the file. Rows may be missing between them, of which the
        index may have counted some.

    Returns
    -------
    array of bool, shape (n,)
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(cells)
    filled: np.ndarray = pc.not_equal(text, "").to_numpy(zero_copy_only=False)
    if not filled.all():
        return filled
    whole = pc.match_substring_regex(text, _WHOLE)
    if not pc.all(whole).as_py():
        return filled
    numbers = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
    steps = np.diff(numbers)
    used = np.zeros(len(numbers), dtype=bool)
    used[1:] = (steps < 1) | (steps > np.diff(rows))
    return used


def spare_defect(position: int) -> str:
    """The defect of a row, or of a file, whose spare column is used."""
    return f"column {position + 1} has no name, and is neither empty nor a running number"


def spare_notice(position: int) -> str:
    """What is said of a spare column that is passed over."""
    return f"column {position + 1} has no name of its own and was passed over"
