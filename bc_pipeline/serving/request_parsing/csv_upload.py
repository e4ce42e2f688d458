"""Reads an uploaded CSV in bounded time and memory, whatever it contains.

The strict reader of `bc_pipeline.tables` parses it. This module adds the limits that files of
our own do not need: small blocks, which bound the memory of defects, a maximum number of rows,
and a number of defects after which reading stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bc_pipeline.errors import Defect, FileRefused, SchemaMismatch, counted
from bc_pipeline.labels import Labels
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.lines import PLAIN_REMEDY
from bc_pipeline.tables.reader import open_table

SOURCE = "The upload"
MAX_DEFECTS = 10_000
"""Defects of rows after which reading stops."""

# A block may have 30 defects for every 31 bytes, and each block has an overhead. Measured: with
# this size no file of 16 MiB takes a second or 100 MB.
_BLOCK_BYTES = 80 << 10
_MAX_LISTED = 100
_PARQUET_MAGIC = b"PAR1"
_PLAIN_REMEDY = "Send plain CSV in UTF-8."


def read_rows(
    path: Path,
    schema: FeatureSchema,
    labels: Labels | None = None,
    *,
    read_labels: bool = False,
    row_limit: int,
) -> Iterator[Block]:
    """Read an uploaded CSV block by block.

    Parameters
    ----------
    path : Path
        A file of bounded size. Its name appears in no message.
    schema : FeatureSchema
    labels : Labels or None
        Of the problem; a column of labels is no defect then.
    read_labels : bool
        Whether a column of labels is required and read; it is ignored otherwise.
    row_limit : int
        Maximum number of rows, bad ones included.

    Yields
    ------
    Block
        Rows, and the defects of the bad ones.

    Raises
    ------
    FileRefused
        Where the file is not CSV, has more than `row_limit` rows or more than `MAX_DEFECTS`
        defects; it may be raised after some blocks were yielded.
    SchemaMismatch
        Where the columns are not those of the schema.
    """
    defect_count = 0
    try:
        _refuse_parquet(path)
        with open_table(
            path, schema, labels, read_labels=read_labels, block_bytes=_BLOCK_BYTES
        ) as reader:
            for block in reader:
                if reader.rows_read > row_limit:
                    raise _refusal(f"has more than {row_limit} rows", "Send it in several parts.")
                defect_count += sum(map(len, block.defects.values()))
                if defect_count > MAX_DEFECTS:
                    raise _refusal(
                        f"has more than {MAX_DEFECTS} defects up to line {int(block.lines[-1])}; "
                        "the rest was not read",
                        "Mend what the first rows show, and send it again.",
                    )
                yield block
    except (FileRefused, SchemaMismatch) as error:
        raise _as_upload(error, path) from None


def _refuse_parquet(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC:
            # A small Parquet file can expand to any number of rows.
            raise _refusal("is a Parquet file", "Send CSV in UTF-8.")


def _refusal(reason: str, remedy: str) -> FileRefused:
    return FileRefused(f"{SOURCE} is not taken.", remedy, defects=(Defect(reason),))


def _as_upload(error: FileRefused | SchemaMismatch, path: Path) -> FileRefused | SchemaMismatch:
    """The error without the name of the temporary file, and with the first of its defects."""
    listed = error.defects[:_MAX_LISTED]
    if more := len(error.defects) - len(listed):
        reason = counted(more, "more defect is not listed", "more defects are not listed")
        listed = (*listed, Defect(reason))
    # The reader's message begins with the name of the file.
    message = SOURCE + error.message.removeprefix(path.name).removeprefix(SOURCE)
    # The reader's remedy also mentions Parquet, which uploads may not be.
    remedy = _PLAIN_REMEDY if error.remedy == PLAIN_REMEDY else error.remedy
    return replace(error, message=message, remedy=remedy, source=SOURCE, defects=listed)
