"""Files that are given instead of a plain table, and tables as other programs export them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bc_pipeline.errors import FileRefused, SchemaMismatch
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.tables.reader import open_table

NAMES = WDBC.schema.names
VALUES = [repr(value) for value in WDBC.load_reference().values[19].tolist()]
HEADER, ROW = ",".join(("id", *NAMES)), ",".join(("Mueller-4711", *VALUES))


def refused(tmp_path: Path, content: bytes | str) -> str:
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises((FileRefused, SchemaMismatch)) as caught:
        open_table(path, WDBC.schema, WDBC.labels, read_labels=False)
    said = str(caught.value)
    assert "Mueller" not in said
    assert "4711" not in said
    assert not any(value in said for value in VALUES)
    return said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"sep=,\n{HEADER}\n{ROW}\n", "line 1: is no header: it tells Excel the separator"),
        (f'"sep=;"\n{HEADER}\n{ROW}\n', "line 1: is no header: it tells Excel the separator"),
        (f"# Mueller 4711\n{HEADER}\n{ROW}\n", "line 1: is no header: it is a comment"),
        (
            f"Export of Mueller,,,\n\n{HEADER}\n{ROW}\n",
            "is no header; the header is line 3",
        ),
        (f"diagnosis,2024\n{HEADER}\n{ROW}\n", "line 1: is no header; the header is line 2"),
        (b"<!DOCTYPE html>\n<html>Mueller</html>\n", "is an HTML page"),
        (b"\xef\xbb\xbf\n  <HTML>\n", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4711\n", "Run `git lfs pull`"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
        (b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml", "is an Excel workbook"),
        (b"PK\x03\x04\x14\x00rows.csv", "is a zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an old Excel workbook"),
        (b"\x80\x04\x95\x10", "is a Python pickle"),
        (b"%PDF-1.7", "is a PDF"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "is UTF-16"),
        ('[{"id": "Mueller"}]', "is JSON"),
        (f"{HEADER}\n{ROW}\n".replace(",", ";"), "separates its fields by semicolons"),
        (f"{HEADER}\n{ROW}\n".replace(",", ";").replace(".", ","), "separates its fields by semi"),
        (f"{HEADER}\n{ROW}\n".replace(",", "\t"), "separates its fields by tabs"),
        (f"{HEADER}\n{ROW}\n".replace(",", " "), "separates its fields by blanks"),
        (f"{HEADER}{ROW}{ROW}", "is one line with header and values"),
        (f"{HEADER}{ROW}\n{ROW}\n", "is not a feature"),
    ],
)
def test_what_is_no_table_is_named_in_one_line(
    tmp_path: Path, content: bytes | str, said: str
) -> None:
    assert said in refused(tmp_path, content)


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cells = [f'"{value}"'.replace(".", ",") for value in VALUES]
    unquoted = [value.replace(".", ",") for value in VALUES]
    rows = [",".join(("a", *cells)), ",".join(("b", *unquoted))]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    with open_table(path, WDBC.schema) as reader:
        (block,) = reader
    reasons = {defect.reason for defect in block.defects[0]}
    assert "is not a number: write a dot for decimals, and no thousands separators" in reasons
    assert "are there commas in numbers?" in block.defects[1][0].reason
