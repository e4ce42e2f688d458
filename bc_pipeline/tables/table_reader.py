"""Base class of the readers of CSV and Parquet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np

from bc_pipeline.errors import Defect, SchemaMismatch
from bc_pipeline.tables.blocks import NO_CODE, Block
from bc_pipeline.tables.checks import RowDefects, read_codes, read_ids, read_metadata
from bc_pipeline.tables.columns import ColumnFinder, Columns
from bc_pipeline.tables.spare_columns import (
    numbers_rows,
    spare_defect,
    spare_notice,
    used_cells,
)
from bc_pipeline.tables.text_column import TextColumn
from bc_pipeline.tables.writer import Layout


class TableReader(ABC):
    """An open table: a context manager that is iterated once for its blocks.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    columns : Columns
    bytes_total, bytes_done : int
        Size of the file, and how much of it has been read.
    rows_read : int
        Rows yielded so far, those with defects included.
    notices : tuple of str
        What of the file is passed over.
    """

    columns: Columns
    bytes_total: int

    def __init__(self, finder: ColumnFinder) -> None:
        self.source = finder.source
        self.bytes_done = self.rows_read = 0
        self._finder = finder

    @property
    def notices(self) -> tuple[str, ...]:
        return (
            *map(spare_notice, self.columns.spare),
            *(
                f"column {name} is metadata, which no model uses, and was passed over"
                for name in self.columns.unread_metadata
            ),
        )

    def examine_spare(
        self, columns: Columns, cells: Mapping[int, Any], rows: np.ndarray
    ) -> Columns:
        """The columns with those that number the rows, by the first rows.

        Parameters
        ----------
        cells : mapping of int to pyarrow.StringArray, each of shape (m,)
            The spare columns of the first rows, by position.
        rows : array of int64, shape (m,)

        Raises
        ------
        SchemaMismatch
            Where they show that a spare column is none.
        """
        numbers = {position: numbers_rows(cells[position], rows) for position in columns.spare}
        defects = tuple(
            Defect(spare_defect(position))
            for position, numbered in numbers.items()
            if numbered is None
        )
        if defects:
            raise SchemaMismatch(
                f"{self.source} does not have the expected columns.",
                "Name these columns or remove them.",
                source=self.source,
                defects=defects,
            )
        return replace(columns, numbered=tuple(filter(numbers.get, numbers)))

    def add_spare_defects(
        self, cells: Mapping[int, Any], rows: np.ndarray, defects: RowDefects
    ) -> None:
        """Add the rows in which a spare column is used; parameters as of `examine_spare`."""
        for position in self.columns.spare:
            used = used_cells(cells[position], numbered=position in self.columns.numbered)
            defects.add(rows[used], None, spare_defect(position))

    @property
    def layout(self) -> Layout:
        return "parquet" if self.columns.dialect == "parquet" else "csv"

    @property
    @abstractmethod
    def sha256(self) -> str:
        """SHA-256 of the bytes that were read; known once every block was yielded."""

    @abstractmethod
    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in the order of the file.

        Raises
        ------
        FileRefused
            Where a defect of the whole file is met late: the caller must discard the
            blocks yielded before.
        """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_block(
        self,
        lines: np.ndarray,
        rows: np.ndarray,
        values: np.ndarray,
        text: Mapping[int, Any],
        defects: RowDefects,
    ) -> Block:
        """A block of the rows that were read, checked against the schema.

        Parameters
        ----------
        lines : array of int64, shape (n,)
        rows : array of int64, shape (m,)
            Index in the block of each row of `text`.
        values : array of float64, shape (n, n_features)
        text : mapping of int to pyarrow.StringArray, each of shape (m,)
            The columns of ids, labels and metadata, by position in the file.
        """
        columns, labels = self.columns, self._finder.labels
        ids = self._ids(text, rows, len(lines), defects)
        codes = coded = None
        if columns.label is not None and labels is not None:
            codes = np.full(len(lines), NO_CODE, dtype=np.int64)
            coded = np.zeros(len(lines), dtype=bool)
            codes[rows], coded[rows] = read_codes(text[columns.label], rows, labels, defects)
        metadata = {
            column.name: read_metadata(
                text[columns.metadata[column.name]], rows, len(lines), column, defects
            )
            for column in self._finder.schema.metadata
            if column.name in columns.metadata
        }
        defects.check_values(self._finder.schema, values)
        by_row = {
            row: [Defect(defect.reason, int(lines[row]), defect.column) for defect in row_defects]
            for row, row_defects in defects.by_row().items()
        }
        self.rows_read += len(lines)
        return Block(lines, ids, values, codes, by_row, coded, self.notices, metadata)

    def _ids(
        self, text: Mapping[int, Any], rows: np.ndarray, count: int, defects: RowDefects
    ) -> TextColumn:
        """Ids of `count` rows; parameters as of `_make_block`."""
        import pyarrow as pa

        if self.columns.identifier is None:
            return TextColumn(pa.nulls(count, pa.string()))
        ids = read_ids(text[self.columns.identifier], rows, defects)
        if len(ids) == count:
            return ids
        positions = np.zeros(count, dtype=np.int64)
        absent = np.ones(count, dtype=bool)
        positions[rows], absent[rows] = np.arange(len(ids)), False
        return TextColumn(ids.array.take(pa.array(positions, mask=absent)))
