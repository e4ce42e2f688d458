"""Columns without a name of their own, which exports of data frames and spreadsheets add."""

from __future__ import annotations

from typing import Any

import numpy as np

# Only these rows decide; the first block of every reader has them.
_FIRST_ROWS = 100
# Of numbers that skip: how often they may start again, and how far they may step on average. Ids of
# patients step further.
_RESTARTS = 0.1
_MEAN_STEP = 1000
_WHOLE = r"^[0-9]{1,15}(\.0*)?$"


def used_cells(cells: Any, *, numbered: bool) -> np.ndarray:
    """Whether each cell of a spare column holds something else than the column does.

    Whether it numbers the rows is known from the first rows: a cell by itself then says whether it
    is used, in whatever block of the file it is read. Numbers may start again, as where exports
    were joined.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    numbered : bool
        As of `numbers_rows`; otherwise the column is empty.

    Returns
    -------
    array of bool, shape (n,)
    """
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(cells)
    used = pc.not_equal(text, "")
    if numbered:
        used = pc.and_not(used, pc.match_substring_regex(text, _WHOLE))
    is_used: np.ndarray = used.to_numpy(zero_copy_only=False)
    return is_used


def numbers_rows(cells: Any, rows: np.ndarray) -> bool | None:
    """Whether a spare column numbers the rows, by its first cells; False where it is empty.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)
        Position of each cell's row in the file. Rows may be missing between them, of which the
        index may have counted some.

    Returns
    -------
    bool or None
        None where most of the cells are neither nothing nor the next number, and they do not rise
        as the index of rows that were filtered does.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(cells).slice(0, _FIRST_ROWS)
    few = len(text) / 2
    if used_cells(text, numbered=False).sum() <= few:
        return False
    if not pc.all(pc.match_substring_regex(text, _WHOLE)).as_py():
        return None
    steps = np.diff(pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False))
    rising = steps >= 1
    jumps = ~rising | (steps > np.diff(rows[:_FIRST_ROWS]))
    if jumps.sum() <= few:
        return True
    skips = (~rising).mean() <= _RESTARTS and steps[rising].mean() <= _MEAN_STEP
    return True if skips else None


def spare_defect(position: int) -> str:
    """The defect of a row, or of a file, whose spare column is used."""
    return f"column {position + 1} has no name, and is neither empty nor a running number"


def spare_notice(position: int) -> str:
    """The notice about a spare column that is passed over."""
    return f"column {position + 1} has no name of its own and was passed over"
