"""Splits checked lines into columns with Arrow, and keeps count of every line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bc_pipeline.tables.lines import Chunk, refusal

Kind = Literal["number", "text"]
BLANK = "is blank"


@dataclass(frozen=True)
class SplitRows:
    """The rows of a chunk that have the right number of fields, and the lines that do not.

    Attributes
    ----------
    columns : dict of int to pyarrow.Array, each of shape (m,)
        By position in the file.
    rows : array of int64, shape (m,)
        Index in the chunk of each row of the columns.
    others : dict of int to str
        What is wrong with each other line, by its index in the chunk.
    """

    columns: dict[int, Any]
    rows: np.ndarray
    others: dict[int, str]


def split_rows(chunk: Chunk, width: int, wanted: Mapping[int, Kind], source: str) -> SplitRows:
    """Split each line at its commas; convert the wanted columns.

    Parameters
    ----------
    chunk : Chunk
        Its quotes were checked: a line is a row.
    width : int
        Number of fields that a row must have.
    wanted : mapping of int to {"number", "text"}
        Columns to give, by position.

    Raises
    ------
    pyarrow.ArrowInvalid
        Where a cell of a number column is not one.
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
        others[index] = (
            f"has {row.actual_columns} fields instead of {width}" if row.text.strip() else BLANK
        )
        return "skip"

    types = {"number": pa.float64(), "text": pa.string()}
    table = csv.read_csv(
        pa.BufferReader(data),
        # One block and one thread: row numbers are known and memory is bounded.
        read_options=csv.ReadOptions(
            use_threads=False,
            block_size=len(data) + 1,
            column_names=[str(position) for position in range(width)],
        ),
        parse_options=csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
        convert_options=csv.ConvertOptions(
            column_types={str(position): types[kind] for position, kind in wanted.items()},
            include_columns=[str(position) for position in wanted],
            null_values=[],
            check_utf8=False,
        ),
    )
    rows = np.delete(present, ragged)
    if table.num_rows != len(rows):
        raise refusal(source, "cannot be split into rows", line=chunk.first_line)
    columns = {position: table.column(str(position)).combine_chunks() for position in wanted}
    return SplitRows(columns, rows, others)
