from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.errors import FileRefused
from bc_pipeline.tables.lines import MAX_BLANK_LINES, MAX_LINE_BYTES, LineSource, check_quotes


def read(path: Path, block_bytes: int) -> tuple[list[tuple[int, bytes]], str]:
    """Every line with its number, and the digest."""
    source = LineSource(path, block_bytes)
    try:
        found = []
        for chunk in source.chunks():
            rows = chunk.data.splitlines()
            assert len(rows) == len(chunk) == len(chunk.ends)
            assert all(chunk.data[end : end + 1] == b"\n" for end in chunk.ends)
            found += list(enumerate(rows, chunk.first_line))
        return found, source.sha256
    finally:
        source.close()


@given(
    content=st.lists(
        st.sampled_from(["a", "1,2", "ä,€", "\n", "\r", "\r\n", "\n\n", " ", ""]), max_size=40
    ).map("".join),
    block_bytes=st.integers(1, 30),
)
def test_lines_and_their_numbers_do_not_depend_on_the_block_size(
    tmp_path_factory: pytest.TempPathFactory, content: str, block_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(content.encode())
    expected = content.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")

    found, digest = read(path, block_bytes)

    lines = [] if expected == [""] else list(enumerate((row.encode() for row in expected), 1))
    assert found == lines
    assert digest == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_an_overlong_line_is_refused(tmp_path: Path, block_bytes: int) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"a\n" + b"b" * MAX_LINE_BYTES + b"\n")

    assert [len(row) for _, row in read(path, block_bytes)[0]] == [1, MAX_LINE_BYTES]

    path.write_bytes(b"a\n\n" + b"b" * (MAX_LINE_BYTES + 1) + b"\n")
    with pytest.raises(FileRefused) as caught:
        read(path, block_bytes)
    assert [defect.line for defect in caught.value.defects] == [3]


@pytest.mark.parametrize("block_bytes", [1000, 1 << 20])
def test_too_many_blank_lines_between_rows_are_refused(tmp_path: Path, block_bytes: int) -> None:
    path = tmp_path / "blank.txt"
    path.write_bytes(b"a\n" + b"\n" * 3 * MAX_BLANK_LINES)
    assert read(path, block_bytes)[0] == [(1, b"a")]

    path.write_bytes(b"a\n" + b"\n" * MAX_BLANK_LINES + b"b\n")
    assert read(path, block_bytes)[0][-1] == (MAX_BLANK_LINES + 2, b"b")

    for blank in (MAX_BLANK_LINES + 1, 3 * MAX_BLANK_LINES):
        path.write_bytes(b"a\n" + b"\n" * blank + b"b\n")
        with pytest.raises(FileRefused) as caught:
            read(path, block_bytes)
        assert [defect.line for defect in caught.value.defects] == [2]


@pytest.mark.parametrize(
    ("text", "bad_line"),
    [
        ('"a","b"\n', None),
        ('"a""b",""\n"",c\n', None),
        ('"""",x\n', None),
        ('"a,b",c\n"d"\n', None),
        ('a,"b\nc\n', 1),
        ('a,b\n"c,d\ne"\n', 2),
        ('a,b\nc"d",e\n', 2),
        ('"a"b,c\n', 1),
        ('a,"b" \n', 1),
        ('a\nb\n"c" "d"\n', 3),
        ('a""b\n', 1),
    ],
)
def test_a_quote_must_enclose_a_whole_field_of_one_line(
    text: str, bad_line: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text(text)
    source = LineSource(path, 1 << 20)
    chunk = next(source.chunks())
    source.close()

    if bad_line is None:
        check_quotes(chunk, "quotes.csv")
        return
    with pytest.raises(FileRefused) as caught:
        check_quotes(chunk, "quotes.csv")
    assert [defect.line for defect in caught.value.defects] == [bad_line]
