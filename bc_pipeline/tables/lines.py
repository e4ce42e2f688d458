"""A text file as chunks of whole physical lines, checked to be plain UTF-8 text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bc_pipeline.errors import Defect, FileRefused
from bc_pipeline.tables.foreign_files import SIGNATURE_BYTES, foreign_file
from bc_pipeline.tables.locations import Openable
from bc_pipeline.tables.parts import FilePart

MAX_LINE_BYTES = 1 << 16
MAX_BLANK_LINES = 10_000
_COMMA, _NEWLINE, _QUOTE = 44, 10, 34
_IS_EDGE = np.isin(np.arange(256), (_COMMA, _NEWLINE, _QUOTE))
PLAIN_REMEDY = "Give plain CSV in UTF-8, or Parquet."


def refusal(source: str, reason: str, remedy: str = "", line: int | None = None) -> FileRefused:
    """The error for a file that is refused as a whole for one defect."""
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
        others = Chunk(self.data[cut:], self.first_line + 1, self.ends[1:] - cut)
        return self.data[: cut - 1], others

    def first_lines(self, count: int) -> list[str]:
        """Text of the first lines without their ends; fewer where the chunk has fewer."""
        cut = int(self.ends[min(count, len(self.ends)) - 1])
        return self.data[:cut].decode().split("\n")


class LineSource:
    r"""Reads a file once, in chunks of about `block_bytes`.

    ``\n``, ``\r\n`` and a lone ``\r`` all end a line. Blank lines at the end of the file
    are dropped; those between rows are not. The chunks never break a line, so row and line
    numbers do not depend on `block_bytes`, nor on the parts in which the file is read.
    """

    def __init__(self, source: Openable, block_bytes: int, part: FilePart | None = None) -> None:
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
        """SHA-256 of the bytes read so far."""
        return self._digest.hexdigest()

    def close(self) -> None:
        self._stream.close()

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks in order.

        Raises
        ------
        FileRefused
            Where it is not UTF-8 text, or a line is too long; names the line.
        """
        carry, line, blank = b"", self._first_line, 0
        for text in self._texts():
            cut = text.rfind(b"\n") + 1
            whole = b"".join((carry, memoryview(text)[:cut])) if cut else b""
            carry = text[cut:] if cut else carry + text
            if len(carry) > MAX_LINE_BYTES:
                self._refuse_length(line + blank + whole.count(b"\n"))
            # Blank lines are held back until a row follows: those at the end are dropped.
            filled = len(whole)
            while filled and whole[filled - 1] == _NEWLINE:
                filled -= 1
            if not filled:
                blank += len(whole)
                continue
            if blank > MAX_BLANK_LINES:
                raise self._too_many_blank(line)
            text = whole if filled == len(whole) - 1 else whole[: filled + 1]
            chunk = self._checked(b"\n" * blank + text if blank else text, line)
            blank = len(whole) - filled - 1
            line += len(chunk)
            yield chunk

    def _texts(self) -> Iterator[bytes]:
        r"""Yield the text in pieces, each line ended by ``\n``, the last one too."""
        pending, first, last = b"", self._start == 0, b"\n"
        block_bytes = max(self._block_bytes, SIGNATURE_BYTES)
        while piece := self._stream.read(min(block_bytes, self.bytes_total - self.bytes_done)):
            self._digest.update(piece)
            self.bytes_done += len(piece)
            if first:
                piece = self._without_byte_order_mark(piece)
                first = False
            piece = pending + piece
            pending = b""
            if piece.endswith(b"\r"):
                piece, pending = piece[:-1], b"\r"
            if b"\r" in piece:
                piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            last = piece[-1:] or last
            yield piece
        if pending or last != b"\n":
            yield b"\n"

    def _without_byte_order_mark(self, piece: bytes) -> bytes:
        if foreign := foreign_file(piece):
            raise refusal(self._source, f"is {foreign[0]}", foreign[1] or PLAIN_REMEDY)
        return piece.removeprefix(b"\xef\xbb\xbf")

    def _checked(self, data: bytes, line: int) -> Chunk:
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
        blank_runs = np.flatnonzero(np.diff(filled, prepend=-1) - 1 > MAX_BLANK_LINES)
        if len(blank_runs):
            first = int(blank_runs[0])
            raise self._too_many_blank(line + (int(filled[first - 1]) + 1 if first else 0))
        return Chunk(data, line, ends)

    def _too_many_blank(self, line: int) -> FileRefused:
        return refusal(self._source, f"starts more than {MAX_BLANK_LINES} blank lines", line=line)

    def _refuse_length(self, line: int) -> None:
        raise refusal(
            self._source,
            f"is longer than {MAX_LINE_BYTES} bytes: a huge field, or not a table",
            line=line,
        )


def check_quotes(chunk: Chunk, source: str) -> None:
    """Refuse quotes that do not enclose a whole field (RFC 4180), or that enclose a line end.

    A row is one physical line here: a quoted field that spans lines is almost always one that
    was never closed, and the rows after it cannot be separated.

    Raises
    ------
    FileRefused
        Naming the line.
    """
    if b'"' not in chunk.data:
        return
    data = np.frombuffer(chunk.data, dtype=np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    open_at_end = np.searchsorted(quotes, chunk.ends) % 2 == 1
    if open_at_end.any():
        raise refusal(
            source,
            "opens a quote and does not close it on the line",
            line=chunk.first_line + int(np.argmax(open_at_end)),
        )
    # Each line has an even number of quotes, so they open and close alternately; a doubled
    # quote inside a field closes it and opens it again at once.
    opening, closing = quotes[0::2], quotes[1::2]
    before = np.where(opening > 0, data[opening - 1], _NEWLINE)
    stray = ~(_IS_EDGE[before] & _IS_EDGE[data[closing + 1]])
    if stray.any():
        at = int(np.searchsorted(chunk.ends, opening[np.argmax(stray)]))
        raise refusal(source, "has a quote inside a field", line=chunk.first_line + at)
