"""CSV and Parquet, written in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

Kind = Literal["text", "integer", "number"]
Layout = Literal["csv", "parquet"]
# A spreadsheet runs what such a cell says; an apostrophe in front makes it text.
_FORMULA = r"^([=+\-@\t\r])"
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
        import pyarrow.compute as pc

        for name in self._text:
            safe = pc.replace_substring_regex(table[name], pattern=_FORMULA, replacement=r"'\1")
            table = table.set_column(self._schema.get_field_index(name), name, safe)
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


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
