"""Text to float64, exactly, with a reason for every cell that is no number."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

EMPTY = "is empty"
NOT_A_NUMBER = "is not a number"
NOT_FINITE = "is not a finite number"
# Decimal digits only: no hexadecimal, no underscores, no thousands separators.
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_INFINITE = r"[+-]?(?i:inf|infinity)"
_BLANKS = " \t"


def is_number(text: str) -> bool:
    """Whether a cell is a number as `parse_numbers` takes it."""
    return re.fullmatch(NUMBER, text.strip(_BLANKS)) is not None


def plain_numbers(cells: Any) -> np.ndarray | None:
    """A column of text as numbers where every cell is plainly a finite one, else None.

    None says nothing about any cell: that is for `parse_numbers`, which takes longer.

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
    """Read a column of text cell by cell.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)

    Returns
    -------
    values : array of float64, shape (n,)
        NaN where the cell is no finite number.
    faults : dict of str to array of int64
        Rows by reason.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim(cells, characters=_BLANKS)
    readable = pc.match_substring_regex(text, f"^{NUMBER}$")
    values = (
        pc.cast(pc.if_else(readable, text, "nan"), pa.float64())
        .to_numpy(zero_copy_only=False)
        .copy()
    )
    number = readable.to_numpy(zero_copy_only=False)
    empty = pc.equal(text, "").to_numpy(zero_copy_only=False)
    infinite = pc.match_substring_regex(text, f"^{_INFINITE}$").to_numpy(zero_copy_only=False)
    # Digits that are too large for a float64, such as 1e400, parse as infinity.
    infinite = infinite | (number & np.isinf(values))
    values[infinite] = np.nan
    masks = {
        EMPTY: empty,
        NOT_FINITE: infinite,
        NOT_A_NUMBER: ~(number | empty | infinite),
    }
    return values, {reason: np.flatnonzero(mask) for reason, mask in masks.items() if mask.any()}
