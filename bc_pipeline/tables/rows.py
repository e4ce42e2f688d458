"""Splits checked lines into columns with Arrow; every line is accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bc_pipeline.errors import counted
from bc_pipeline.tables.lines import Chunk, refusal

Kind = Literal["number", "text"]
BLANK = "is blank"


@dataclass(frozen=True)
class SplitRows:
    """The rows of a chunk with the right number of fields, and the other lines.

    Attributes
    ----------
    columns : dict of int to pyarrow.Array, each of shape (m,)
        By position in the file.
    rows : array of int64, shape (m,)
        Index in the chunk of each row of the columns.
    others : dict of int to str
        The defect of each other line, by its index in the chunk.
    """

    columns: dict[int, Any]
    rows: np.ndarray
    others: dict[int, str]


def split_rows(chunk: Chunk, width: int, requested: Mapping[int, Kind], source: str) -> SplitRows:
    """Split each line at its commas and convert the requested columns.

    Parameters
    ----------
    chunk : Chunk
        Its quotes must have been checked, so that a line is a row.
    width : int
        Number of fields that a row must have.
    requested : mapping of int to {"number", "text"}
        Columns to return, by position.

    Raises
    ------
    pyarrow.ArrowInvalid
        Where a cell of a number column is not a number.
    """
    import pyarrow as pa
    from pyarrow import csv

    blank = np.diff(chunk.ends, prepend=-1) == 1
    present = np.flatnonzero(~blank)
    others = dict.fromkeys(np.flatnonzero(blank).tolist(), BLANK)
    data = re.sub(rb"\n\n+", b"\n", chunk.data).lstrip(b"\n") if others else chunk.data
    ragged: list[int] = []

    def skip(row: Any) -> str:
        index = int(present[row.number - 1])
        ragged.append(row.number - 1)
        others[index] = _ragged(row.actual_columns, width) if row.text.strip() else BLANK
        return "skip"

    types = {"number": pa.float64(), "text": pa.string()}
    table = csv.read_csv(
        pa.BufferReader(data),
        # One block and one thread, so that row numbers are exact and memory is bounded.
        read_options=csv.ReadOptions(
            use_threads=False,
            block_size=len(data) + 1,
            column_names=[str(position) for position in range(width)],
        ),
        parse_options=csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
        convert_options=csv.ConvertOptions(
            column_types={str(position): types[kind] for position, kind in requested.items()},
            include_columns=[str(position) for position in requested],
            null_values=[],
            check_utf8=False,
        ),
    )
    rows = np.delete(present, ragged) if ragged else present
    if table.num_rows != len(rows):
        raise refusal(source, "cannot be split into rows", line=chunk.first_line)
    columns = {position: _whole(table.column(str(position))) for position in requested}
    return SplitRows(columns, rows, others)


def _whole(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _ragged(count: int, width: int) -> str:
    # Decimal commas split nearly every number into two fields.
    commas = ": are there commas in numbers?" if 3 * width < 2 * count <= 4 * width else ""
    return f"has {counted(count, 'field')} instead of {width}{commas}"
