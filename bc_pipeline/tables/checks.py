"""Checks of rows that CSV and Parquet share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bc_pipeline.errors import Defect
from bc_pipeline.labels import Labels
from bc_pipeline.names import ID_COLUMN, MAX_ID_LENGTH, is_number
from bc_pipeline.sample_metadata import MetadataColumn
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.tables.blocks import NO_CODE
from bc_pipeline.tables.numbers import EMPTY
from bc_pipeline.tables.text_column import TextColumn


class RowDefects:
    """Collects the defects of rows, which are counted from 0.

    Parameters
    ----------
    limit : int or None
        How many defects are stored; later ones are only counted.

    Attributes
    ----------
    count : int
        Of all defects.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.count = 0
        self._limit = limit
        self._by_row: dict[int, list[Defect]] = {}
        self._unsplit: set[int] = set()

    @property
    def is_full(self) -> bool:
        return self._limit is not None and self.count >= self._limit

    def add(self, rows: Iterable[int], column: str | None, reason: str) -> None:
        """Add one defect to each of the rows."""
        for row in rows:
            self.count += 1
            if self._limit is None or self.count <= self._limit:
                self._by_row.setdefault(int(row), []).append(Defect(reason, column=column))

    def add_unreadable(self, row: int, reason: str) -> None:
        """Add a row that could not be split into columns: nothing else of it is checked."""
        self.add([row], None, reason)
        self._unsplit.add(row)

    def check_values(self, schema: FeatureSchema, values: np.ndarray, first_row: int = 0) -> None:
        """Add the defects that the schema finds, for columns of a row that have none yet.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
        first_row : int
            Number of the first of these rows.
        """
        rows = np.arange(first_row, first_row + len(values))
        if self._unsplit:
            is_split = ~np.isin(rows, list(self._unsplit))
            rows, values = rows[is_split], values[is_split]
        for index, defects in sorted(schema.row_defects(values).items()):
            row = int(rows[index])
            columns = {defect.column for defect in self._by_row.get(row, ())}
            for defect in defects:
                if defect.column not in columns:
                    self.add([row], defect.column, defect.reason)

    def by_row(self) -> dict[int, list[Defect]]:
        """The defects by row, in the order of the rows."""
        return dict(sorted(self._by_row.items()))


def read_ids(cells: Any, rows: np.ndarray, defects: RowDefects) -> TextColumn:
    """Ids of the rows, trimmed; an id that is empty, overlong or unprintable is a defect.

    An empty id is None.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)
        Index in the block of each cell's row.
    """
    ids = TextColumn(cells)
    if ids.is_plain(MAX_ID_LENGTH):
        return ids
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(cells.fill_null(""))
    length = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    printable = pc.utf8_is_printable(text).to_numpy(zero_copy_only=False)
    defects.add(rows[length == 0], ID_COLUMN, EMPTY)
    defects.add(rows[length > MAX_ID_LENGTH], ID_COLUMN, f"is over {MAX_ID_LENGTH} characters long")
    defects.add(rows[(length > 0) & ~printable], ID_COLUMN, "holds unprintable characters")
    return TextColumn(pc.if_else(pc.equal(text, ""), None, text))


def read_codes(
    cells: Any, rows: np.ndarray, labels: Labels, defects: RowDefects
) -> tuple[np.ndarray, np.ndarray]:
    """Label codes, `NO_CODE` and a defect for a label that is neither class.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)

    Returns
    -------
    codes : array of int64, shape (n,)
    coded : array of bool, shape (n,)
        Whether the file has a number there, not a word.
    """
    encoded = cells.fill_null("").dictionary_encode()
    spellings = encoded.dictionary.to_pylist()
    outside = [labels.code_of(spelling) for spelling in spellings]
    empty = np.array([not spelling.strip() for spelling in spellings], dtype=bool)
    table = np.array([NO_CODE if code is None else code for code in outside], dtype=np.int64)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    codes: np.ndarray = table[index]
    names = f"{labels.positive.name} or {labels.negative.name}"
    defects.add(rows[empty[index]], labels.column, EMPTY)
    defects.add(rows[(codes == NO_CODE) & ~empty[index]], labels.column, f"is not {names}")
    numeric = np.array([is_number(spelling) for spelling in spellings], dtype=bool)
    return codes, numeric[index]


def read_metadata(
    cells: Any, rows: np.ndarray, count: int, column: MetadataColumn, defects: RowDefects
) -> tuple[str, ...]:
    """Texts of a column of metadata, trimmed, one for each row of a block; empty where unknown.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)
        Index in the block of each cell's row.
    count : int
        Number of rows of the block.
    """
    encoded = cells.fill_null("").dictionary_encode()
    texts = np.array([text.strip() for text in encoded.dictionary.to_pylist()], dtype=object)
    is_bad = np.array([bool(text) and not column.accepts(text) for text in texts], dtype=bool)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    defects.add(rows[is_bad[index]], column.name, f"is not {column.expected}")
    complete = np.full(count, "", dtype=object)
    complete[rows] = texts[index]
    return tuple(complete.tolist())
