"""What a table reader gives: blocks of rows, with everything that is wrong with each row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from bc_pipeline.errors import Defect

if TYPE_CHECKING:
    import numpy as np

Dialect = Literal["canonical", "sklearn", "kaggle", "uci", "mixed", "headerless", "parquet"]

NO_CODE = -1
"""Stands in `Block.codes` for a label that is neither class; such a row has a defect."""


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a table, bad ones included.

    Attributes
    ----------
    lines : array of int64, shape (n,)
        Physical line of each row, the header being line 1; row number from 1 for Parquet.
    ids : sequence of (str or None), length n
        The file's id of each row; None where the file has no id column, or the row none.
    values : array of float64, shape (n, n_features)
        In schema order. NaN where a cell could not be read.
    codes : array of int64, shape (n,), or None
        Outside label codes, `NO_CODE` where the label is neither class; None where labels
        were not asked for.
    defects : dict of int to list of Defect
        Everything wrong with each bad row, by row index in the block. A row that is not
        in it is accepted.
    """

    lines: np.ndarray
    ids: Sequence[str | None]
    values: np.ndarray
    codes: np.ndarray | None
    defects: dict[int, list[Defect]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def accepted(self) -> np.ndarray:
        """Which rows have no defect: array of bool, shape (n,)."""
        import numpy as np

        mask = np.ones(len(self), dtype=bool)
        mask[list(self.defects)] = False
        return mask


class TableReader(ABC):
    """An open table: a context manager that is iterated once for its blocks.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    dialect : Dialect
        How the file names its columns.
    has_ids : bool
        Whether there is an id column.
    bytes_total, bytes_done : int
        Size of the file, and how much of it the blocks given so far took.
    rows_read : int
        Rows given so far: accepted plus bad.
    """

    source: str
    dialect: Dialect
    has_ids: bool
    bytes_total: int
    bytes_done: int
    rows_read: int

    @property
    @abstractmethod
    def sha256(self) -> str:
        """SHA-256 of the bytes that were read; known once every block was given."""

    @abstractmethod
    def __iter__(self) -> Iterator[Block]:
        """Give the blocks in the order of the file.

        Raises
        ------
        FileRefused
            Where a fault of the whole file shows only now: the caller must drop what it
            took from earlier blocks.
        """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
