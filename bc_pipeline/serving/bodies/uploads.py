"""Rows of a CSV that a caller sent, read in bounded time and memory whatever it holds.

The file is the caller's choice to the last byte. The strict reader of `bc_pipeline.tables`
judges it; here stand the bounds that reader does not need for files of our own: small blocks,
so that a block full of defects is small too, and an end to reading once a file has shown that
it is not the table it should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bc_pipeline.errors import Defect, FileRefused, SchemaMismatch
from bc_pipeline.schema import FeatureSchema, Labels
from bc_pipeline.tables import Block, open_table
from bc_pipeline.tables.lines import PLAIN_REMEDY

SOURCE = "The upload"
MAX_DEFECTS = 10_000
"""Defects of rows after which nothing more is read."""

# A block may hold 30 defects for every 31 bytes, and each block has its cost: measured, this
# size keeps the worst of either well under a second and 100 MB for 16 MiB.
_BLOCK_BYTES = 80 << 10
_LISTED = 100
_PARQUET = b"PAR1"
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
        A file of bounded size. Its name is told to nobody.
    schema : FeatureSchema
    labels : Labels or None
        Which column is the label, so that it is known.
    read_labels : bool
        Whether the label must be there and is read; if not, it is ignored.
    row_limit : int
        Rows that are taken at most, bad ones included.

    Yields
    ------
    Block
        With the defects of its bad rows.

    Raises
    ------
    FileRefused
        Where the file is not CSV, has more than `row_limit` rows or more than `MAX_DEFECTS`
        defects; it may show only after some blocks were given.
    SchemaMismatch
        Where its columns are not those of the schema.
    """
    try:
        yield from _blocks(path, schema, labels, read_labels=read_labels, row_limit=row_limit)
    except (FileRefused, SchemaMismatch) as error:
        # The reader begins its message with the name of a file that only the service knows.
        listed = error.defects[:_LISTED]
        if more := len(error.defects) - len(listed):
            listed = (*listed, Defect(f"{more} more defects are not listed"))
        message = SOURCE + error.message.removeprefix(path.name)
        # Nor is a Parquet file taken here, which the reader would advise.
        remedy = _PLAIN_REMEDY if error.remedy == PLAIN_REMEDY else error.remedy
        raise replace(
            error, message=message, remedy=remedy, source=SOURCE, defects=listed
        ) from None


def _blocks(
    path: Path,
    schema: FeatureSchema,
    labels: Labels | None,
    *,
    read_labels: bool,
    row_limit: int,
) -> Iterator[Block]:
    with path.open("rb") as stream:
        if stream.read(len(_PARQUET)) == _PARQUET:
            # A small Parquet file can hold any number of rows.
            raise _refusal(path, "is a Parquet file", "Send CSV in UTF-8.")
    reader = open_table(path, schema, labels, read_labels=read_labels, block_bytes=_BLOCK_BYTES)
    found = 0
    with reader:
        for block in reader:
            if reader.rows_read > row_limit:
                raise _refusal(path, f"has more than {row_limit} rows", "Send it in several parts.")
            found += sum(map(len, block.defects.values()))
            if found > MAX_DEFECTS:
                raise _refusal(
                    path,
                    f"has more than {MAX_DEFECTS} defects up to line {int(block.lines[-1])}; "
                    "the rest was not read",
                    "Mend what the first rows show, and send it again.",
                )
            yield block


def _refusal(path: Path, reason: str, remedy: str) -> FileRefused:
    return FileRefused(
        f"{path.name} is not taken.", remedy, source=path.name, defects=(Defect(reason),)
    )
