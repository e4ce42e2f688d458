"""Reads CSV whose columns the strict reader of `bc_pipeline.tables` does not know."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice

from bc_pipeline.errors import BodyUnreadable
from bc_pipeline.tables.foreign_files import SIGNATURE_BYTES, foreign_file, not_a_header

# A longer line is no row of a table; it would be copied several times before a field of it is
# found too long.
_MAX_LINE = 1 << 20


def csv_lines(body: bytes, limit: int) -> list[list[str]]:
    """Cells of the first lines; a blank line has none.

    Raises
    ------
    BodyUnreadable
        Where the body is not CSV in UTF-8, is empty, or has a line of a million characters. Where
        it is a known kind of file that is no table, the message names the kind.
    """
    if foreign := foreign_file(body[:SIGNATURE_BYTES]):
        kind, remedy = foreign
        raise BodyUnreadable(f"The body is {kind}.", remedy)
    reader = csv.reader(_text_lines(body), strict=True)
    try:
        lines = list(islice(reader, limit))
    except UnicodeDecodeError:
        raise BodyUnreadable("The body is not UTF-8.") from None
    except csv.Error:
        raise _not_csv(reader.line_num) from None
    if len(lines) < limit and not any(lines):
        raise BodyUnreadable("The body is empty.")
    number, first = next(((at, line) for at, line in enumerate(lines, 1) if line), (1, []))
    if no_header := not_a_header(",".join(first)):
        reason, remedy = no_header
        raise BodyUnreadable(f"Line {number} of the body {reason}.", remedy)
    return lines


def _text_lines(body: bytes) -> Iterator[str]:
    stream = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="")
    for number, line in enumerate(iter(lambda: stream.readline(_MAX_LINE), ""), start=1):
        if len(line) == _MAX_LINE:
            raise _not_csv(number)
        yield line


def _not_csv(line: int) -> BodyUnreadable:
    return BodyUnreadable(f"The body is not CSV: see line {line}.")
