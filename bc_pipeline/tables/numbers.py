"""Exact conversion of text to float64, with a reason for every cell that is not a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from bc_pipeline.names import BLANKS, NUMBER

EMPTY = "is empty"
NOT_A_NUMBER = "is not a number"
DECIMAL_COMMA = "is not a number: write a dot for decimals, and no thousands separators"
NOT_FINITE = "is not a finite number"
_WITH_COMMA = r"^[+-]?[0-9][0-9.]*(,[0-9.]+)+$"
_INFINITE = r"[+-]?(?i:inf|infinity)"


def plain_numbers(cells: Any) -> np.ndarray | None:
    """Convert a column of text by a fast cast; None unless every cell is a finite number.

    `parse_numbers`, which is slower, then says which cells are not.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)

    Returns
    -------
    array of float64, shape (n,), or None
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        values: np.ndarray = pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return values if np.isfinite(values).all() else None


def parse_numbers(cells: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Convert a column of text, each cell separately.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)

    Returns
    -------
    values : array of float64, shape (n,)
        NaN where the cell is not a finite number.
    defects : dict of str to array of int64
        Rows by reason.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim(cells, characters=BLANKS)
    readable = pc.match_substring_regex(text, f"^{NUMBER}$")
    values = (
        pc.cast(pc.if_else(readable, text, "nan"), pa.float64())
        .to_numpy(zero_copy_only=False)
        .copy()
    )
    number = readable.to_numpy(zero_copy_only=False)
    empty = pc.equal(text, "").to_numpy(zero_copy_only=False)
    infinite = pc.match_substring_regex(text, f"^{_INFINITE}$").to_numpy(zero_copy_only=False)
    # A number too large for a float64, such as 1e400, is parsed as infinity.
    infinite = infinite | (number & np.isinf(values))
    values[infinite] = np.nan
    comma = pc.match_substring_regex(text, _WITH_COMMA).to_numpy(zero_copy_only=False) & ~number
    masks = {
        EMPTY: empty,
        NOT_FINITE: infinite,
        DECIMAL_COMMA: comma,
        NOT_A_NUMBER: ~(number | empty | infinite | comma),
    }
    return values, {reason: np.flatnonzero(mask) for reason, mask in masks.items() if mask.any()}
