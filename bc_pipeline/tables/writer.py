"""Writes CSV and Parquet in blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from bc_pipeline.errors import Defect
from bc_pipeline.names import ID_COLUMN, MAX_ID_LENGTH, NUMBER, is_number
from bc_pipeline.tables.arrow_arrays import number_array
from bc_pipeline.tables.text_column import TextColumn

Kind = Literal["text", "integer", "number"]
Layout = Literal["csv", "parquet"]
DEFECT_COLUMNS: dict[str, Kind] = {
    "line": "integer",
    ID_COLUMN: "text",
    "column": "text",
    "reason": "text",
}
# Spreadsheets evaluate a cell that starts like this; an apostrophe in front makes it text. The
# last four are full-width signs, which they treat like the ASCII ones (OWASP, "CSV Injection").
_FORMULA = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
# Whether a text whose UTF-8 starts with a byte may start like that.
_MAY_START = np.isin(np.arange(256), list(b"=+-@\t\r\n\xef"))
_GROUP_ROWS = 1 << 16
_NUMBERS = (np.dtype(np.int64), np.dtype(np.float64))


def defect_columns(defects: Sequence[tuple[str | None, Defect]]) -> dict[str, Any]:
    """The columns of a table of defects, each of which comes with the id of its row."""
    return {
        "line": [defect.line for _, defect in defects],
        ID_COLUMN: [None if name is None else _legible(name) for name, _ in defects],
        "column": [defect.column for _, defect in defects],
        "reason": [defect.reason for _, defect in defects],
    }


def _legible(name: str) -> str:
    """An id for a person to read: as it is, where it is valid, else without what is not printed."""
    if len(name) <= MAX_ID_LENGTH and name.isprintable():
        return name
    shown = "".join(char if char.isprintable() else "\ufffd" for char in name[:MAX_ID_LENGTH])
    return shown + ("\u2026" if len(name) > MAX_ID_LENGTH else "")


def neutral_cell(text: str) -> str:
    """The cell's text, with an apostrophe in front where a spreadsheet would evaluate it."""
    return f"'{text}" if re.match(_FORMULA, text) and not is_number(text) else text


def probability_text(probability: float) -> str:
    """A number from 0 to 1 as `TableWriter` writes it in CSV, without Arrow.

    The fewest digits that read back as the same number; with an exponent only below 0.000001.
    """
    text = repr(probability)
    if "e" not in text:
        return text.removesuffix(".0")
    return format(Decimal(text), "f") if probability >= 1e-6 else text.replace("e-0", "e-")


class TableWriter:
    """An open file that blocks of rows are appended to; it is complete once it is closed.

    Numbers are written so that they read back exactly. In CSV, a text cell that a
    spreadsheet would evaluate as a formula gets an apostrophe in front.

    Parameters
    ----------
    path : Path
        Overwritten if it exists; see `bc_pipeline.artifacts.files.staged_file`.
    columns : mapping of str to {"text", "integer", "number"}
        Names and kinds in the order of the file.
    layout : {"csv", "parquet"}
    """

    def __init__(self, path: Path, columns: Mapping[str, Kind], layout: Layout) -> None:
        import pyarrow as pa
        from pyarrow import csv, parquet

        types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._pending: list[Any] = []
        self._is_csv = layout == "csv"
        self._writer: Any
        if layout == "csv":
            options = csv.WriteOptions(quoting_header="none")
            self._writer = csv.CSVWriter(str(path), self._schema, write_options=options)
        else:
            self._writer = parquet.ParquetWriter(str(path), self._schema)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append rows.

        Parameters
        ----------
        columns : mapping of str to sequence or array of numpy or Arrow, each of length n
            By name; None in a sequence is an empty cell.
        """
        import pyarrow as pa

        arrays = [_array(columns[field.name], field.type) for field in self._schema]
        if self._is_csv:
            arrays = [
                _neutral_cells(array) if pa.types.is_string(array.type) else array
                for array in arrays
            ]
        self._pending.append(pa.table(arrays, schema=self._schema))
        if sum(pending.num_rows for pending in self._pending) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            table = pa.concat_tables(self._pending)
            self._writer.write_table(table)
            self._pending.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _array(cells: Any, kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(cells, np.ndarray) and cells.dtype in _NUMBERS:
        cells = number_array(cells)
    if not isinstance(cells, pa.Array):
        return pa.array(cells, type=kind)
    return cells if cells.type == kind else cells.cast(kind)


def _neutral_cells(cells: Any) -> Any:
    """`neutral_cell` of every cell of an array of text."""
    text, starts = TextColumn(cells).utf8()
    if not _MAY_START[text[starts[:-1][np.diff(starts) > 0]]].any():
        return cells
    import pyarrow.compute as pc

    risky = pc.match_substring_regex(cells, _FORMULA)
    number = pc.match_substring_regex(cells, rf"^[ \t]*{NUMBER}[ \t]*$")
    quoted = pc.binary_join_element_wise("'", cells, "")
    return pc.if_else(pc.and_not(risky, number), quoted, cells)
