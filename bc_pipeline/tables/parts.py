r"""A large file cut into parts that can be read apart, each at its right line.

A CSV row is one physical line (`bc_pipeline.tables.csv_reader`), so a CSV file may be cut
behind the ``\n`` of any line that is not blank. A Parquet file is one part.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from bc_pipeline.tables.parquet_reader import MAGIC
from bc_pipeline.tables.places import Openable

PART_BYTES = 1 << 26
# The header, the first row and all blank lines above them fit in: they tell the columns.
LEAST_PART_BYTES = 1 << 18
_PIECE_BYTES = 1 << 22
_LINE_END = re.compile(rb"[^\r\n]\r?\n")


@dataclass(frozen=True)
class Part:
    """Some consecutive bytes of a file.

    Attributes
    ----------
    start, end : int
        Bytes from the start of the file.
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
    """What one pass over a file told: its digest, its size in bytes and its parts, in order."""

    sha256: str
    size: int
    parts: tuple[Part, ...]


def scan(source: Openable, part_bytes: int = PART_BYTES) -> Scan:
    """Read a file once, to know it by its digest and where it may be cut.

    Parameters
    ----------
    part_bytes : int
        About how long a part is; no less than `LEAST_PART_BYTES` is taken.

    Raises
    ------
    OSError
    """
    part_bytes = max(part_bytes, LEAST_PART_BYTES)
    with source.open("rb") as stream:
        piece = stream.read(_PIECE_BYTES)
        cutting = not piece.startswith(MAGIC)
        whole, part = hashlib.sha256(), hashlib.sha256()
        parts: list[Part] = []
        offset = start = 0
        line = first_line = 1
        returned = False
        while piece:
            whole.update(piece)
            done = 0
            while cutting:
                due = max(start + part_bytes - offset, done)
                found = _LINE_END.search(piece, due) if due < len(piece) else None
                if found is None:
                    break
                cut = found.end()
                part.update(piece[done:cut])
                line += _lines(piece[done:cut], returned)
                returned = False
                parts.append(Part(start, offset + cut, first_line, part.hexdigest()))
                part = hashlib.sha256()
                start, first_line, done = offset + cut, line, cut
            rest = piece[done:]
            part.update(rest)
            line += _lines(rest, returned)
            returned = rest.endswith(b"\r") if rest else returned
            offset += len(piece)
            piece = stream.read(_PIECE_BYTES)
    if start < offset or not parts:
        parts.append(Part(start, offset, first_line, part.hexdigest()))
    return Scan(whole.hexdigest(), offset, tuple(parts))


def _lines(data: bytes, returned: bool) -> int:
    r"""How many lines end in some bytes; `returned` where a ``\r`` stands before them."""
    ends = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
    return ends - (returned and data.startswith(b"\n"))
