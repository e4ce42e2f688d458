"""Opens tables of any known dialect."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.errors import FileRefused
from bc_pipeline.labels import Labels
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.tables.columns import ColumnFinder, Columns
from bc_pipeline.tables.csv_reader import CsvReader
from bc_pipeline.tables.input_file import irregular
from bc_pipeline.tables.lines import refusal
from bc_pipeline.tables.locations import FileLocation, Openable, is_url
from bc_pipeline.tables.parquet_reader import ParquetReader
from bc_pipeline.tables.parts import PARQUET_MAGIC, FilePart
from bc_pipeline.tables.table_reader import TableReader

BLOCK_BYTES = 1 << 21


def open_table(
    source: Openable,
    schema: FeatureSchema,
    labels: Labels | None = None,
    *,
    read_labels: bool = True,
    block_bytes: int = BLOCK_BYTES,
    part: FilePart | None = None,
    columns: Columns | None = None,
) -> TableReader:
    """Open a CSV or Parquet file, recognised by its first bytes, as blocks of rows.

    Parameters
    ----------
    source : Path or FileLocation
    schema : FeatureSchema
    labels : Labels or None
        Names of the label column; None where the problem has none.
    read_labels : bool
        Whether the label column is required and read; if not, it is optional and ignored.
    block_bytes : int
        Approximate bytes of the file in one block; bounds the memory.
    part : FilePart, optional
        The part of a CSV file to read; by default all of the file. Line numbers are those in the
        file.
    columns : Columns, optional
        Columns of the file, for a part after the first, which has the header.

    Raises
    ------
    FileRefused
        Where the file as a whole cannot be read.
    SchemaMismatch
        Where its columns are not those of the schema; lists every defect.
    """
    path = Path(source.url) if isinstance(source, FileLocation) else source
    if not (isinstance(source, FileLocation) and is_url(source.url)) and (
        reason := irregular(path)
    ):
        raise _not_opened(source.name, reason)
    try:
        with source.open("rb") as stream:
            is_parquet = stream.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    except OSError as error:
        raise _not_opened(source.name, f"cannot be opened: {error.strerror}") from None
    if not is_parquet and source.suffix.lower() == ".parquet":
        raise refusal(source.name, "is named Parquet and is not", "Send it again, or rename it.")
    finder = ColumnFinder(source.name, schema, labels, read_labels)
    if is_parquet:
        return ParquetReader(source, finder, block_bytes)
    return CsvReader(source, finder, block_bytes, part, columns)


def _not_opened(source: str, reason: str) -> FileRefused:
    return FileRefused(f"{source} {reason}.", "Name a file.", source=source)
