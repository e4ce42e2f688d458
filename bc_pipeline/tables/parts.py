r"""Byte ranges of a large file that can be read independently, with their line numbers.

A CSV row is one physical line (`bc_pipeline.tables.csv_reader`), so a CSV file may be split
after the ``\n`` of any line that is not blank. A Parquet file is one part.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from bc_pipeline.tables.locations import Openable

PARQUET_MAGIC = b"PAR1"
PART_BYTES = 1 << 26
# The first part must hold the header and the first row, which define the columns, and all blank
# lines above them.
LEAST_PART_BYTES = 1 << 18
_READ_BYTES = 1 << 22
_LINE_END = re.compile(rb"[^\r\n]\r?\n")


@dataclass(frozen=True)
class FilePart:
    """A range of a file's bytes.

    Attributes
    ----------
    start, end : int
        Offsets in bytes; `end` is exclusive.
    first_line : int
        Number of its first line, from 1.
    sha256 : str
        Of its bytes.
    """

    start: int
    end: int
    first_line: int
    sha256: str


@dataclass(frozen=True)
class Scan:
    """Digest, size in bytes and parts, in order, of a file."""

    sha256: str
    size: int
    parts: tuple[FilePart, ...]


def scan(source: Openable, part_bytes: int = PART_BYTES) -> Scan:
    """Read a file once to compute its digest and the ranges it can be split into.

    Parameters
    ----------
    part_bytes : int
        Approximate size of a part; at least `LEAST_PART_BYTES`.

    Raises
    ------
    OSError
    """
    part_bytes = max(part_bytes, LEAST_PART_BYTES)
    with source.open("rb") as stream:
        piece = stream.read(_READ_BYTES)
        splits = not piece.startswith(PARQUET_MAGIC)
        whole, part = hashlib.sha256(), hashlib.sha256()
        parts: list[FilePart] = []
        offset = start = 0
        line = first_line = 1
        after_return = False
        while piece:
            whole.update(piece)
            done = 0
            while splits:
                earliest = max(start + part_bytes - offset, done)
                line_end = _LINE_END.search(piece, earliest) if earliest < len(piece) else None
                if line_end is None:
                    break
                cut = line_end.end()
                part.update(piece[done:cut])
                line += _count_lines(piece[done:cut], after_return)
                after_return = False
                parts.append(FilePart(start, offset + cut, first_line, part.hexdigest()))
                part = hashlib.sha256()
                start, first_line, done = offset + cut, line, cut
            rest = piece[done:]
            part.update(rest)
            line += _count_lines(rest, after_return)
            after_return = rest.endswith(b"\r") if rest else after_return
            offset += len(piece)
            piece = stream.read(_READ_BYTES)
    if start < offset or not parts:
        parts.append(FilePart(start, offset, first_line, part.hexdigest()))
    return Scan(whole.hexdigest(), offset, tuple(parts))


def _count_lines(data: bytes, after_return: bool) -> int:
    r"""Number of line ends in `data`; `after_return` says that a ``\r`` precedes it."""
    ends = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
    return ends - (after_return and data.startswith(b"\n"))
