"""A block of rows, as a table reader yields it, with every defect of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bc_pipeline.errors import Defect

NO_CODE = -1
"""The value in `Block.codes` of a label that is neither class; such a row has a defect."""


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a table, bad ones included.

    Attributes
    ----------
    lines : array of int64, shape (n,)
        Physical line of each row, the header being line 1; row number from 1 for Parquet.
    ids : sequence of (str or None), length n
        Id of each row; None where the file has no id column or the row's id is empty.
    values : array of float64, shape (n, n_features)
        In schema order. NaN where a cell could not be read.
    codes : array of int64, shape (n,), or None
        Label codes as files have them, `NO_CODE` where the label is neither class; None
        where labels are not read.
    defects : dict of int to list of Defect
        By row index in the block. A row without an entry is accepted.
    coded : array of bool, shape (n,), or None
        Whether each label is a code, not a word; None where labels are not read.
    notices : tuple of str
        Columns of the file that are passed over.
    metadata : dict of str to tuple of str, each of length n
        Text of each row in each column of metadata; empty where it is missing.
    """

    lines: np.ndarray
    ids: Sequence[str | None]
    values: np.ndarray
    codes: np.ndarray | None
    defects: dict[int, list[Defect]] = field(default_factory=dict)
    coded: np.ndarray | None = None
    notices: tuple[str, ...] = ()
    metadata: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def accepted(self) -> np.ndarray:
        """Whether each row has no defect: array of bool, shape (n,)."""
        mask = np.ones(len(self), dtype=bool)
        mask[list(self.defects)] = False
        return mask
