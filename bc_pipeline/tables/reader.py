"""Opening a table of any known dialect."""

from __future__ import annotations

from bc_pipeline.schema import FeatureSchema, Labels
from bc_pipeline.tables.blocks import TableReader
from bc_pipeline.tables.columns import Columns
from bc_pipeline.tables.csv_reader import CsvReader
from bc_pipeline.tables.lines import refusal
from bc_pipeline.tables.parquet_reader import MAGIC, ParquetReader
from bc_pipeline.tables.parts import Part
from bc_pipeline.tables.places import Openable

BLOCK_BYTES = 1 << 21


def open_table(
    source: Openable,
    schema: FeatureSchema,
    labels: Labels | None = None,
    *,
    read_labels: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> TableReader:
    """Open a CSV or Parquet file, told apart by its first bytes, as blocks of rows in schema order.

    Parameters
    ----------
    source : Path or Place
    schema : FeatureSchema
    labels : Labels or None
        Which column is the label, under which names; None where no label column is known.
    read_labels : bool
        Whether the label column must be there and is read. If not, it may be there and is
        ignored.
    block_bytes : int
        About how much of the file one block holds; it bounds the memory.

    Raises
    ------
    FileRefused
        Where the file as a whole cannot be read.
    SchemaMismatch
        Where its columns are not those of the schema; lists every one.
    """
    try:
        with source.open("rb") as stream:
            is_parquet = stream.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise refusal(source.name, f"cannot be opened: {error.strerror}") from None
    if not is_parquet and source.suffix.lower() == ".parquet":
        raise refusal(source.name, "is named Parquet and is not", "Send it again, or rename it.")
    reader = ParquetReader if is_parquet else CsvReader
    return reader(source, schema, labels, read_labels=read_labels, block_bytes=block_bytes)


def open_part(
    source: Openable,
    part: Part,
    columns: Columns | None,
    schema: FeatureSchema,
    labels: Labels | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> TableReader:
    """Open one part of a CSV file, labels unread; its rows are those of the whole file there.

    Parameters
    ----------
    columns : Columns or None
        As `part_columns` gave them; None for the first part, which has the header.
    """
    return CsvReader(
        source,
        schema,
        labels,
        read_labels=False,
        block_bytes=block_bytes,
        part=part,
        columns=columns,
    )


def part_columns(reader: TableReader) -> Columns | None:
    """The columns of an open CSV file, for its parts; None for Parquet, which has none."""
    return reader.columns if isinstance(reader, CsvReader) else None
