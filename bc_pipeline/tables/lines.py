"""A text file as chunks of whole physical lines, checked to be plain UTF-8 text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bc_pipeline.errors import Defect, FileRefused
from bc_pipeline.tables.places import Openable

if TYPE_CHECKING:
    import numpy as np

    from bc_pipeline.tables.parts import Part

MAX_LINE_BYTES = 1 << 16
MAX_BLANK_LINES = 10_000
_COMMA, _NEWLINE, _QUOTE = 44, 10, 34
_MARKS = {
    b"\xff\xfe": "UTF-16 or UTF-32 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x00\x00\xfe\xff": "UTF-32 text",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
}
_LONGEST_MARK = 8
PLAIN_REMEDY = "Give plain CSV in UTF-8, or Parquet."


def refusal(source: str, reason: str, remedy: str = "", line: int | None = None) -> FileRefused:
    """The error that refuses a whole file for one fault."""
    return FileRefused(
        f"{source} cannot be read as a table.",
        remedy,
        source=source,
        defects=(Defect(reason, line=line),),
    )


@dataclass(frozen=True)
class Chunk:
    r"""Some consecutive lines, each ended by ``\n``.

    Attributes
    ----------
    first_line : int
        Number of the first line, from 1.
    ends : array of int64, shape (n_lines,)
        Positions of the ``\n`` in `data`.
    """

    data: bytes
    first_line: int
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def split_first(self) -> tuple[bytes, Chunk]:
        """The first line without its end, and the chunk of the others."""
        cut = int(self.ends[0]) + 1
        rest = Chunk(self.data[cut:], self.first_line + 1, self.ends[1:] - cut)
        return self.data[: cut - 1], rest


class LineSource:
    r"""Reads a file once, in chunks of about `block_bytes`.

    ``\n``, ``\r\n`` and a lone ``\r`` all end a line. Blank lines at the end of the file
    are dropped; those between rows stay. The chunks never break a line, so row and line
    numbers do not depend on `block_bytes`, nor on the parts that a file is read in.
    """

    def __init__(self, source: Openable, block_bytes: int, part: Part | None = None) -> None:
        self._source = source.name
        self._block_bytes = block_bytes
        self._stream = source.open("rb")
        self._digest = hashlib.sha256()
        self._start, self._first_line = (part.start, part.first_line) if part else (0, 1)
        end = part.end if part else self._stream.seek(0, os.SEEK_END)
        self._stream.seek(self._start)
        self.bytes_total = end - self._start
        self.bytes_done = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far."""
        return self._digest.hexdigest()

    def close(self) -> None:
        self._stream.close()

    def chunks(self) -> Iterator[Chunk]:
        """Give the chunks in order.

        Raises
        ------
        FileRefused
            For anything but UTF-8 text of lines of sensible length; names the line.
        """
        carry, line, blank = b"", self._first_line, 0
        for text in self._texts():
            carry += text
            cut = carry.rfind(b"\n") + 1
            if len(carry) - cut > MAX_LINE_BYTES:
                self._refuse_length(line + blank + carry[:cut].count(b"\n"))
            whole, carry = carry[:cut], carry[cut:]
            # Blank lines are held back until a row follows: at the end they mean nothing.
            rows = whole.rstrip(b"\n")
            if not rows:
                blank += len(whole)
                continue
            if blank > MAX_BLANK_LINES:
                raise self._too_blank(line)
            chunk = self._checked(b"\n" * blank + rows + b"\n", line)
            blank = len(whole) - len(rows) - 1
            line += len(chunk)
            yield chunk

    def _texts(self) -> Iterator[bytes]:
        r"""The file piece by piece, every line end a ``\n``, the last line ended too."""
        held, first, last = b"", self._start == 0, b"\n"
        while piece := self._stream.read(self._next_bytes()):
            self._digest.update(piece)
            self.bytes_done += len(piece)
            if first:
                piece = self._without_mark(piece)
                first = False
            piece = held + piece
            held = b""
            if piece.endswith(b"\r"):
                piece, held = piece[:-1], b"\r"
            if b"\r" in piece:
                piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            last = piece[-1:] or last
            yield piece
        if held or last != b"\n":
            yield b"\n"

    def _next_bytes(self) -> int:
        return min(max(self._block_bytes, _LONGEST_MARK), self.bytes_total - self.bytes_done)

    def _without_mark(self, piece: bytes) -> bytes:
        for mark, meaning in _MARKS.items():
            if piece.startswith(mark):
                raise refusal(self._source, f"is {meaning}", PLAIN_REMEDY)
        return piece.removeprefix(b"\xef\xbb\xbf")

    def _checked(self, data: bytes, line: int) -> Chunk:
        import numpy as np

        if b"\0" in data:
            at = line + data[: data.index(b"\0")].count(b"\n")
            raise refusal(
                self._source, "holds a NUL byte: the file is binary or UTF-16 text", line=at
            )
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError as error:
                at = line + data[: error.start].count(b"\n")
                raise refusal(
                    self._source, "is not UTF-8 text", "Save the file as UTF-8.", at
                ) from None
        ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == _NEWLINE)
        lengths = np.diff(ends, prepend=-1) - 1
        if (lengths > MAX_LINE_BYTES).any():
            self._refuse_length(line + int(np.argmax(lengths > MAX_LINE_BYTES)))
        filled = np.flatnonzero(lengths)
        too_blank = np.flatnonzero(np.diff(filled, prepend=-1) - 1 > MAX_BLANK_LINES)
        if len(too_blank):
            first = int(too_blank[0])
            raise self._too_blank(line + (int(filled[first - 1]) + 1 if first else 0))
        return Chunk(data, line, ends)

    def _too_blank(self, line: int) -> FileRefused:
        return refusal(self._source, f"starts more than {MAX_BLANK_LINES} blank lines", line=line)

    def _refuse_length(self, line: int) -> None:
        raise refusal(
            self._source,
            f"is longer than {MAX_LINE_BYTES} bytes: a huge field, or not a table",
            line=line,
        )


def check_quotes(chunk: Chunk, source: str) -> None:
    """Refuse quotes that do not enclose a whole field (RFC 4180) or enclose a line end.

    A row is one physical line here: a quoted field that runs on is in practice one that
    was never closed, and nothing after it can be trusted.

    Raises
    ------
    FileRefused
        Naming the line.
    """
    if b'"' not in chunk.data:
        return
    import numpy as np

    data = np.frombuffer(chunk.data, dtype=np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    open_at_end = np.searchsorted(quotes, chunk.ends) % 2 == 1
    if open_at_end.any():
        raise refusal(
            source,
            "opens a quote and does not close it on the line",
            line=chunk.first_line + int(np.argmax(open_at_end)),
        )
    # Every line holds an even number, so they open and close in turn; a doubled quote
    # inside a field closes it and opens it again at once.
    edges = (_COMMA, _NEWLINE, _QUOTE)
    opening, closing = quotes[0::2], quotes[1::2]
    before = np.where(opening > 0, data[opening - 1], _NEWLINE)
    stray = ~np.isin(before, edges) | ~np.isin(data[closing + 1], edges)
    if stray.any():
        at = int(np.searchsorted(chunk.ends, opening[np.argmax(stray)]))
        raise refusal(source, "has a quote inside a field", line=chunk.first_line + at)
