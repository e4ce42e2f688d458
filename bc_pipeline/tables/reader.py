"""Opening a table of any known dialect."""

from __future__ import annotations

from pathlib import Path

from bc_pipeline.schema import FeatureSchema, Labels
from bc_pipeline.tables.blocks import TableReader

BLOCK_BYTES = 1 << 20


def open_table(
    path: Path,
    schema: FeatureSchema,
    labels: Labels | None = None,
    *,
    read_labels: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> TableReader:
    """Open a CSV or Parquet file as blocks of rows in schema order.

    Parameters
    ----------
    path : Path
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
    raise NotImplementedError
