"""Writes CSV and Parquet in blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from bc_pipeline.errors import Defect
from bc_pipeline.schema import ID_COLUMN, NUMBER, is_number

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
_GROUP_ROWS = 1 << 16


def defect_columns(defects: Sequence[tuple[str | None, Defect]]) -> dict[str, Any]:
    """The columns of a table of defects, each of which comes with the id of its row."""
    return {
        "line": [defect.line for _, defect in defects],
        ID_COLUMN: [name for name, _ in defects],
        "column": [defect.column for _, defect in defects],
        "reason": [defect.reason for _, defect in defects],
    }


def neutral_cell(text: str) -> str:
    """The cell's text, with an apostrophe in front where a spreadsheet would evaluate it."""
    return f"'{text}" if re.match(_FORMULA, text) and not is_number(text) else text


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
        self._neutral: list[str] = []
        self._writer: Any
        if layout == "csv":
            self._neutral = [name for name, kind in columns.items() if kind == "text"]
            options = csv.WriteOptions(quoting_header="none")
            self._writer = csv.CSVWriter(str(path), self._schema, write_options=options)
        else:
            self._writer = parquet.ParquetWriter(str(path), self._schema)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append rows.

        Parameters
        ----------
        columns : mapping of str to sequence or array, each of length n
            By name; None in a sequence is an empty cell.
        """
        import pyarrow as pa

        arrays = [pa.array(columns[field.name], type=field.type) for field in self._schema]
        self._pending.append(pa.table(arrays, schema=self._schema))
        if sum(pending.num_rows for pending in self._pending) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            table = pa.concat_tables(self._pending)
            for name in self._neutral:
                index = self._schema.get_field_index(name)
                table = table.set_column(index, name, _neutral_column(table[name]))
            self._writer.write_table(table)
            self._pending.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _neutral_column(cells: Any) -> Any:
    """`neutral_cell` of every cell of a column of text."""
    import pyarrow.compute as pc

    risky = pc.match_substring_regex(cells, _FORMULA)
    if not pc.any(risky).as_py():
        return cells
    number = pc.match_substring_regex(cells, rf"^[ \t]*{NUMBER}[ \t]*$")
    quoted = pc.binary_join_element_wise("'", cells, "")
    return pc.if_else(pc.and_not(risky, number), quoted, cells)
