"""CSV and Parquet, written in blocks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bc_pipeline.tables.numbers import NUMBER, is_number

Kind = Literal["text", "integer", "number"]
Layout = Literal["csv", "parquet"]
# A spreadsheet runs what such a cell says; an apostrophe in front makes it text. The last four
# are the signs in full width, which it takes for the plain ones (OWASP, "CSV Injection").
_FORMULA = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_GROUP_ROWS = 1 << 16


def open_writer(path: Path, columns: Mapping[str, Kind], layout: Layout) -> TableWriter:
    """Open a file for writing blocks of rows; it is complete once the writer is closed.

    Numbers are written so that they read back exactly. In CSV, a text cell that a
    spreadsheet would take for a formula gets an apostrophe in front.

    Parameters
    ----------
    path : Path
        Replaced if it is there; see `bc_pipeline.artifacts.files.staged_file`.
    columns : mapping of str to {"text", "integer", "number"}
        Names and kinds in the order of the file.
    layout : {"csv", "parquet"}
    """
    return _CsvWriter(path, columns) if layout == "csv" else _ParquetWriter(path, columns)


def neutral_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; a number stays as it is.

    Parameters
    ----------
    text : str
        As the cell should read.
    """
    return f"'{text}" if re.match(_FORMULA, text) and not is_number(text) else text


class TableWriter(ABC):
    """Takes blocks of rows, column by column."""

    def __init__(self, columns: Mapping[str, Kind]) -> None:
        import pyarrow as pa

        types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append rows.

        Parameters
        ----------
        columns : mapping of str to sequence or array, each of length n
            By name; None in a sequence is an empty cell.
        """
        import pyarrow as pa

        arrays = [pa.array(columns[field.name], type=field.type) for field in self._schema]
        self._append(pa.table(arrays, schema=self._schema))

    @abstractmethod
    def _append(self, table: Any) -> None: ...

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


class _CsvWriter(TableWriter):
    def __init__(self, path: Path, columns: Mapping[str, Kind]) -> None:
        from pyarrow import csv

        super().__init__(columns)
        self._text = [name for name, kind in columns.items() if kind == "text"]
        self._writer = csv.CSVWriter(
            str(path), self._schema, write_options=csv.WriteOptions(quoting_header="none")
        )

    def _append(self, table: Any) -> None:
        for name in self._text:
            place = self._schema.get_field_index(name)
            table = table.set_column(place, name, _neutral_column(table[name]))
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


def _neutral_column(cells: Any) -> Any:
    """`neutral_cell` of every cell of a column of text."""
    import pyarrow.compute as pc

    risky = pc.match_substring_regex(cells, _FORMULA)
    if not pc.any(risky).as_py():
        return cells
    number = pc.match_substring_regex(cells, rf"^[ \t]*{NUMBER}[ \t]*$")
    quoted = pc.binary_join_element_wise("'", cells, "")
    return pc.if_else(pc.and_not(risky, number), quoted, cells)


class _ParquetWriter(TableWriter):
    def __init__(self, path: Path, columns: Mapping[str, Kind]) -> None:
        from pyarrow import parquet

        super().__init__(columns)
        self._pending: list[Any] = []
        self._writer = parquet.ParquetWriter(str(path), self._schema)

    def _append(self, table: Any) -> None:
        self._pending.append(table)
        if sum(part.num_rows for part in self._pending) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending))
            self._pending.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()
