"""What is checked in every row, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bc_pipeline.errors import Defect
from bc_pipeline.schema import ID_COLUMN, FeatureSchema, Labels
from bc_pipeline.tables.blocks import NO_CODE, Block
from bc_pipeline.tables.numbers import EMPTY

MAX_ID_LENGTH = 200


class RowFaults:
    """Defects of the rows of one block, as they are found."""

    def __init__(self) -> None:
        self._by_row: dict[int, list[Defect]] = {}
        self._unreadable: set[int] = set()

    def add(self, rows: Iterable[int], column: str | None, reason: str) -> None:
        """Note one defect for each of the rows."""
        for row in rows:
            self._by_row.setdefault(int(row), []).append(Defect(reason, column=column))

    def add_unreadable(self, row: int, reason: str) -> None:
        """Note a row that could not be split into columns: nothing else is asked of it."""
        self._by_row[row] = [Defect(reason)]
        self._unreadable.add(row)

    def judged(
        self, schema: FeatureSchema, lines: np.ndarray, values: np.ndarray
    ) -> dict[int, list[Defect]]:
        """All defects in the order of the rows, those of the schema's row rules included.

        Parameters
        ----------
        lines : array of int64, shape (n,)
        values : array of float64, shape (n, n_features)
        """
        readable = np.arange(len(values))
        if self._unreadable:
            readable = np.setdiff1d(readable, np.fromiter(self._unreadable, dtype=np.int64))
            values = values[readable]
        for index, found in schema.row_defects(values).items():
            noted = self._by_row.setdefault(int(readable[index]), [])
            explained = {defect.column for defect in noted}
            noted += [defect for defect in found if defect.column not in explained]
        return {
            row: [Defect(defect.reason, line, defect.column) for defect in self._by_row[row]]
            for row, line in ((row, int(lines[row])) for row in sorted(self._by_row))
        }


def read_ids(cells: Any, rows: np.ndarray, faults: RowFaults) -> list[str | None]:
    """Ids of the rows, trimmed; an id that is empty, overlong or unprintable is a defect.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)
        Row of the block that each cell stands in.
    """
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(cells.fill_null(""))
    length = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    printable = pc.utf8_is_printable(text).to_numpy(zero_copy_only=False)
    faults.add(rows[length == 0], ID_COLUMN, EMPTY)
    faults.add(rows[length > MAX_ID_LENGTH], ID_COLUMN, f"is over {MAX_ID_LENGTH} characters long")
    faults.add(rows[(length > 0) & ~printable], ID_COLUMN, "holds unprintable characters")
    return [identifier or None for identifier in text.to_pylist()]


def read_codes(cells: Any, rows: np.ndarray, labels: Labels, faults: RowFaults) -> np.ndarray:
    """Outside codes of the labels, `NO_CODE` and a defect where the label is neither class.

    Parameters
    ----------
    cells : pyarrow.StringArray, shape (n,)
    rows : array of int64, shape (n,)

    Returns
    -------
    array of int64, shape (n,)
    """
    encoded = cells.fill_null("").dictionary_encode()
    spellings = encoded.dictionary.to_pylist()
    known = [labels.code_of(spelling) for spelling in spellings]
    empty = np.array([not spelling.strip() for spelling in spellings], dtype=bool)
    table = np.array([NO_CODE if code is None else code for code in known], dtype=np.int64)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    codes: np.ndarray = table[index]
    words = f"{labels.positive.name} or {labels.negative.name}"
    faults.add(rows[empty[index]], labels.column, EMPTY)
    faults.add(rows[(codes == NO_CODE) & ~empty[index]], labels.column, f"is not {words}")
    return codes


def make_block(
    schema: FeatureSchema,
    lines: np.ndarray,
    ids: Sequence[str | None],
    values: np.ndarray,
    codes: np.ndarray | None,
    faults: RowFaults,
) -> Block:
    """The block of rows that were read, judged by the schema."""
    return Block(lines, ids, values, codes, faults.judged(schema, lines, values))
