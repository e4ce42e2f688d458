"""Recognises, by their first bytes, files of other kinds than tables."""

from __future__ import annotations

SIGNATURE_BYTES = 1024
"""How many of the first bytes of a file are looked at."""

_EXCEL = "Save it as CSV (UTF-8) and give that file."
_UNPACK = "Unpack it and give the table itself."
_PANDAS = "Write it with pandas' to_csv or to_parquet."
# First bytes, what it is, and what to do; without a remedy the reader's own.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe", "UTF-16 or UTF-32 text", "Save it as UTF-8."),
    (b"\xfe\xff", "UTF-16 text", "Save it as UTF-8."),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "Save it as UTF-8."),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _EXCEL),
    (b"%PDF", "a PDF", ""),
    (b"{\\rtf", "a text document in RTF", ""),
    (b"\x89PNG", "an image", ""),
    (b"\xff\xd8\xff", "an image", ""),
    (b"\x93NUMPY", "an array of numpy", _PANDAS),
    (b"\x89HDF", "an HDF5 file", _PANDAS),
    (b"ARROW1", "a Feather or Arrow file", _PANDAS),
    (b"SQLite format 3", "an SQLite database", ""),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "Run `git lfs pull`."),
    *((b"\x80" + bytes([protocol]), "a Python pickle", _PANDAS) for protocol in range(2, 6)),
)
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<!--", b"<table", b"<svg")


def foreign_file(start: bytes) -> tuple[str, str] | None:
    """The kind of a file that is no table, and what to do; None where it may be a table.

    Parameters
    ----------
    start : bytes
        The first `SIGNATURE_BYTES` of the file, or more.
    """
    if start.startswith(b"PK\x03\x04"):
        if b"[Content_Types].xml" in start or b"xl/" in start:
            return "an Excel workbook", _EXCEL
        return "a zip archive or an Excel workbook", f"{_UNPACK} {_EXCEL}"
    for signature, kind, remedy in _SIGNATURES:
        if start.startswith(signature):
            return kind, remedy
    text = start[:SIGNATURE_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_MARKUP):
        kind = "XML" if text.startswith((b"<?xml", b"<svg")) else "an HTML page"
        return kind, "Download the file itself: this may be a page about it, or of a login."
    if text.startswith((b"{", b"[")):
        return "JSON", "Write it as CSV; the service takes JSON as application/json."
    return None


def not_a_header(line: str) -> tuple[str, str] | None:
    """Why a first line is certainly no header, and what to do; None where it may be one."""
    text = line.strip().strip('"').lower()
    if text.startswith("sep="):
        return "is no header: it tells Excel the separator", "Remove this line."
    if text.startswith(("#", "//", "%")):
        return "is no header: it is a comment", "Remove the lines above the header."
    return None
