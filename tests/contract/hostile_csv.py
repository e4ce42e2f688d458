"""Uploads that hurt: what each holds, and what the service must make of it.

The table serves the reader's tests and those of the routes over HTTP.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from typing import NamedTuple

from bc_pipeline.problems import get_problem

NAMES = get_problem("wdbc").schema.names
# The first of the public rows.
ROW = (
    b"17.99,10.38,122.8,1001,0.1184,0.2776,0.3001,0.1471,0.2419,0.07871,"
    b"1.095,0.9053,8.589,153.4,0.006399,0.04904,0.05373,0.01587,0.03003,0.006193,"
    b"25.38,17.33,184.6,2019,0.1622,0.6656,0.7119,0.2654,0.4601,0.1189\n"
)
HEADER = ",".join(NAMES).encode() + b"\n"
GOOD = HEADER + 3 * ROW
WITH_ID = b"id," + HEADER
LIMIT = 16 << 20
REFUSED, MISMATCH = "file-refused", "schema-mismatch"


class Hostile(NamedTuple):
    """One upload.

    Attributes
    ----------
    make : callable
        Its bytes.
    code : str or None
        Of the error that refuses it; None where it is read.
    rows, bad : int
        Where it is read: how many rows it has, and how many of them have a defect.
    """

    name: str
    make: Callable[[], bytes]
    code: str | None
    rows: int = 0
    bad: int = 0


def cell(value: bytes, column: int = 0) -> Callable[[], bytes]:
    """A good file whose second row holds this in one cell."""

    def make() -> bytes:
        cells = ROW.rstrip().split(b",")
        cells[column] = value
        return HEADER + ROW + b",".join(cells) + b"\n" + ROW

    return make


def named(value: bytes) -> Callable[[], bytes]:
    """A good row with this id between two others."""
    return lambda: WITH_ID + b"a," + ROW + value + b"," + ROW + b"b," + ROW


def full(start: bytes, piece: bytes) -> Callable[[], bytes]:
    """As much of a piece after a start as an upload may hold."""
    return lambda: start + piece * ((LIMIT - len(start)) // len(piece))


def constant(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.csv", b"0" * LIMIT)
    return sink.getvalue()


def read(name: str, make: Callable[[], bytes], bad: int, rows: int = 3) -> Hostile:
    return Hostile(name, make, None, rows, bad)


FILES = (
    # Nothing, or nearly nothing
    Hostile("empty", constant(b""), REFUSED),
    Hostile("byte order mark alone", constant(codecs.BOM_UTF8), REFUSED),
    Hostile("blank lines alone", constant(b"\r\n\n\r\n"), REFUSED),
    Hostile("header alone", constant(HEADER), REFUSED),
    Hostile("header alone without line end", constant(HEADER.rstrip()), REFUSED),
    Hostile("one NUL byte", constant(b"\0"), REFUSED),
    Hostile("one quote", constant(b'"'), REFUSED),
    Hostile("one comma", constant(b","), MISMATCH),
    # Not text, or other text
    Hostile("NUL bytes up to the limit", full(b"", b"\0" * 1024), REFUSED),
    Hostile("NUL in a cell", cell(b"17\x0099"), REFUSED),
    Hostile("UTF-16", lambda: GOOD.decode().encode("utf-16"), REFUSED),
    Hostile("UTF-16 without mark", lambda: GOOD.decode().encode("utf-16-be"), REFUSED),
    Hostile("UTF-32", lambda: GOOD.decode().encode("utf-32"), REFUSED),
    Hostile("Latin-1 after UTF-8", named("Jürgen".encode("latin-1")), REFUSED),
    Hostile("mixed encodings", lambda: GOOD + "é,".encode() + "é\n".encode("cp1252"), REFUSED),
    Hostile("half a character at the end", lambda: GOOD + "é".encode()[:1], REFUSED),
    Hostile("surrogate in UTF-8", named(b"\xed\xa0\x80"), REFUSED),
    Hostile("overlong UTF-8", named(b"\xc0\xaf"), REFUSED),
    Hostile("random bytes", lambda: bytes(index * 167 % 251 for index in range(65_536)), REFUSED),
    Hostile("zip", zipped, REFUSED),
    Hostile("gzip", lambda: gzip.compress(GOOD), REFUSED),
    Hostile("gzip bomb", lambda: gzip.compress(b"0" * (64 << 20)), REFUSED),
    Hostile("bzip2", lambda: bz2.compress(GOOD), REFUSED),
    Hostile("xz", lambda: lzma.compress(GOOD), REFUSED),
    Hostile("zstd magic", constant(b"\x28\xb5\x2f\xfd" + b"x" * 100), REFUSED),
    Hostile("old Excel magic", constant(b"\xd0\xcf\x11\xe0" + b"x" * 100), REFUSED),
    Hostile("PDF", constant(b"%PDF-1.7\n1,2\n"), REFUSED),
    Hostile("Parquet magic", constant(b"PAR1" + b"x" * 100 + b"PAR1"), REFUSED),
    Hostile("JSON", constant(b'{"mean_radius": 17.99}\n[]\n'), REFUSED),
    Hostile("HTML", constant(b"<html>\n<body>\n</body></html>\n"), REFUSED),
    # Columns
    Hostile(
        "200,000 columns",
        lambda: b",".join(b"c%d" % column for column in range(200_000)) + b"\n1\n",
        REFUSED,
    ),
    Hostile("200,000 values without header", lambda: b"1," * 200_000 + b"1\n", REFUSED),
    Hostile("30,000 empty names", lambda: b"," * 30_000 + b"\n1\n", REFUSED),
    Hostile(
        "900 names that are nearly right",
        lambda: (
            b",".join(b"mean_concave_point_of%d" % column for column in range(900)) + b"," + GOOD
        ),
        MISMATCH,
    ),
    Hostile("a name twice", lambda: b"mean radius," + GOOD, MISMATCH),
    Hostile("29 columns", lambda: HEADER[HEADER.index(b",") + 1 :] + ROW, MISMATCH),
    Hostile("semicolons", lambda: GOOD.replace(b",", b";"), REFUSED),
    Hostile("tabs", lambda: GOOD.replace(b",", b"\t"), REFUSED),
    Hostile("vertical bars", lambda: GOOD.replace(b",", b"|"), REFUSED),
    Hostile(
        "semicolons and decimal commas",
        lambda: GOOD.replace(b",", b";").replace(b".", b","),
        REFUSED,
    ),
    # Lines and quotes
    Hostile("one line up to the limit", full(b"", b"1,"), REFUSED),
    Hostile("one field up to the limit", full(HEADER, b"9"), REFUSED),
    Hostile("unclosed quote in the header", lambda: b'"' + GOOD, REFUSED),
    Hostile("unclosed quote in a row", cell(b'"17.99'), REFUSED),
    Hostile("unclosed quote up to the limit", full(HEADER + b'"', ROW), REFUSED),
    Hostile("quotes up to the limit", full(HEADER, b'""'), REFUSED),
    Hostile("line end in quotes", named(b'"a\nb"'), REFUSED),
    Hostile("quote inside a field", named(b'a"b"'), REFUSED),
    read("quoted cells", cell(b'"17.99"'), bad=0),
    read("only carriage returns", lambda: GOOD.replace(b"\n", b"\r"), bad=0),
    read("all kinds of line ends", lambda: HEADER + ROW[:-1] + b"\r\n" + ROW[:-1] + b"\r" + ROW, 0),
    read("no end of the last line", lambda: GOOD.rstrip(), bad=0),
    read("ragged rows", lambda: HEADER + ROW[:-1] + b",1\n" + ROW + b"1,2\n", bad=2),
    read("blank line between rows", lambda: HEADER + ROW + b"\n" + ROW, bad=1),
    # Defects without end
    Hostile("ragged rows up to the limit", full(HEADER, b"1\n"), REFUSED),
    Hostile("empty cells up to the limit", full(HEADER, b"," * 29 + b"\n"), REFUSED),
    Hostile("text up to the limit", full(HEADER, b",".join([b"x"] * 30) + b"\n"), REFUSED),
    Hostile("blank lines up to the limit", full(HEADER, b"\n"), REFUSED),
    Hostile("spaces up to the limit", full(HEADER, b" \n"), REFUSED),
    Hostile("blank lines between rows", full(HEADER, ROW + b"\n" * 9_000), REFUSED),
    Hostile("header again and again", full(b"", HEADER), REFUSED),
    read(
        "long numbers up to the limit",
        full(HEADER, b",".join([b"9" * 2000] * 30) + b"\n"),
        bad=279,
        rows=279,
    ),
    read(
        "a bad cell now and then up to the limit",
        full(HEADER, 100 * ROW + b"x" + ROW[1:]),
        bad=806,
        rows=101 * 806,
    ),
    read(
        "a bad line now and then up to the limit",
        full(HEADER, 100 * ROW + b"x\n"),
        bad=814,
        rows=101 * 814,
    ),
    # Cells
    read("5,000 digits", cell(b"1" * 5000), bad=1),
    read("5,000 decimals", cell(b"17.99" + b"0" * 5000), bad=0),
    read("exponent of 5,000 digits", cell(b"1e" + b"9" * 5000), bad=1),
    read("1e400", cell(b"1e400"), bad=1),
    read("denormal", cell(b"5e-324"), bad=1),
    read("negative zero", cell(b"-0.0"), bad=1),
    read("NaN", cell(b"NaN"), bad=1),
    read("infinity", cell(b"-Infinity"), bad=1),
    read("null", cell(b"null"), bad=1),
    read("true", cell(b"true"), bad=1),
    read("empty cell", cell(b""), bad=1),
    read("hexadecimal", cell(b"0x12"), bad=1),
    read("underscore", cell(b"1_7.99"), bad=1),
    read("thousands separator", cell(b'"1,001"', 3), bad=1),
    read("digits of another script", cell("\u0661\u0667".encode()), bad=1),
    read("full-width digits", cell("\uff11\uff17".encode()), bad=1),
    read("no-break space", cell("\u00a017.99".encode()), bad=1),
    read("formula for a value", cell(b"=17.99"), bad=1),
    read("beyond the physical range", cell(b"-17.99"), bad=1),
    read("parts that do not fit", cell(b"35.98"), bad=1),
    # Ids
    read("formula for an id", named(b"=cmd|' /C calc'!A0"), bad=0),
    read("link for an id", named(b'"=HYPERLINK(""http://x"",""y"")"'), bad=0),
    read("markup for an id", named(b"<script>alert(1)</script>"), bad=0),
    read("control characters in an id", named(b"a\x1b[31mb"), bad=1),
    read("text direction in an id", named("a\u202eb".encode()), bad=1),
    read("overlong id", named(b"x" * 5000), bad=1),
    read("empty id", named(b"  "), bad=1),
)
