from __future__ import annotations

import tracemalloc

import pytest

from bc_pipeline.errors import BodyUnreadable
from bc_pipeline.serving.request_parsing.csv_lines import csv_lines


def test_lines_are_read_up_to_the_limit() -> None:
    body = '\ufeffa,"b,c"\r\n\r\n1,2\n3,4'.encode()
    assert csv_lines(body, 3) == [["a", "b,c"], [], ["1", "2"]]
    assert csv_lines(body, 9)[-1] == ["3", "4"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\xff", "UTF-8"),
        (b'a\n"b', "see line 2"),
        (b"a\n" + b"," * (1 << 20), "see line 2"),
    ],
)
def test_a_body_that_is_no_csv_is_unreadable(body: bytes, message: str) -> None:
    with pytest.raises(BodyUnreadable, match=message):
        csv_lines(body, 9)


@pytest.mark.parametrize(
    ("body", "message", "remedy"),
    [
        (b"<!DOCTYPE html>\n<p>a,b", "is an HTML page", "Download the file itself"),
        (b"\xef\xbb\xbf\n<html>", "is an HTML page", "Download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"PK\x03\x04[Content_Types].xml", "is an Excel workbook", "Save it as CSV"),
        ("a,b\n1,2".encode("utf-16"), "is UTF-16", "Save it as UTF-8"),
        (b'[{"a": 1}]', "is JSON", "application/json"),
        (b"sep=,\na,b\n1,2", "Line 1 of the body is no header", "Remove this line"),
        (b'\n"sep=;"\na;b', "Line 2 of the body is no header", "Remove this line"),
        (b"# of Mueller\na,b", "Line 1 of the body is no header", "Remove the lines above"),
    ],
)
def test_what_is_no_table_is_named(body: bytes, message: str, remedy: str) -> None:
    with pytest.raises(BodyUnreadable, match=message) as caught:
        csv_lines(body, 9)
    assert remedy in caught.value.remedy
    assert "Mueller" not in str(caught.value)


@pytest.mark.parametrize("piece", [b"\0", b"a", b",", b'"'])
def test_one_endless_line_takes_little_memory(piece: bytes) -> None:
    body = piece * (16 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BodyUnreadable, match="see line 1"):
            csv_lines(body, 9)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
