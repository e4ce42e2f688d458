from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.errors import FileRefused
from bc_pipeline.problems.base import Problem
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.parts import LEAST_PART_BYTES, FilePart, scan
from bc_pipeline.tables.reader import open_table
from bc_pipeline.tables.table_reader import TableReader

Reference = tuple[np.ndarray, np.ndarray]
ENDS = {"n": b"\n", "rn": b"\r\n", "mixed": b""}


def text_of(values: np.ndarray, names: tuple[str, ...], end: bytes, header: bytes = b"") -> bytes:
    """More than three parts, with blank lines, ragged rows and words in it."""
    rows = [b",".join(b"%r" % cell for cell in row) for row in values.tolist()]
    rows = [row for _ in range(9) for row in rows]
    lines = [header or ",".join(names).encode()]
    for number, row in enumerate(rows):
        if number % 50 == 3:
            lines += [b""] * (number % 4)
        if number % 71 == 5:
            row += b",1"
        if number % 83 == 9:
            row = b"x" + row
        lines.append(row)
    if end:
        return end.join(lines) + 3 * end
    marks = (b"\n", b"\r\n", b"\r", b"\n")
    return b"".join(line + marks[number % 4] for number, line in enumerate(lines))


def rows_of(reader: TableReader) -> list[tuple[int, str | None, list[float], list[str]]]:
    def block_rows(block: Block) -> list[tuple[int, str | None, list[float], list[str]]]:
        return [
            (
                int(block.lines[row]),
                block.ids[row],
                np.nan_to_num(block.values[row], nan=-1.0).tolist(),
                [str(defect) for defect in block.defects.get(row, [])],
            )
            for row in range(len(block))
        ]

    with reader:
        return [row for block in reader for row in block_rows(block)]


def parts_of(path: Path, problem: Problem, parts: tuple[FilePart, ...]) -> Iterator[TableReader]:
    """Readers of the parts, each to be used before the next."""
    with open_table(path, problem.schema, problem.labels, read_labels=False) as reader:
        columns = reader.columns
    for number, part in enumerate(parts):
        yield open_table(
            path,
            problem.schema,
            problem.labels,
            read_labels=False,
            part=part,
            columns=columns if number else None,
        )


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_parts_have_the_rows_and_line_numbers_of_the_whole_file(
    end: str, mark: bytes, wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(mark + text_of(reference[0], wdbc.schema.names, ENDS[end]))
    found = scan(path, 1)
    assert len(found.parts) > 3
    data = path.read_bytes()
    assert (found.sha256, found.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [part.start for part in found.parts[1:]] == [part.end for part in found.parts[:-1]]
    for part in found.parts:
        assert part.sha256 == hashlib.sha256(data[part.start : part.end]).hexdigest()
        assert part.start == 0 or data[part.start - 1 : part.start] == b"\n"
    whole = rows_of(open_table(path, wdbc.schema, wdbc.labels, read_labels=False))
    apart = [row for reader in parts_of(path, wdbc, found.parts) for row in rows_of(reader)]
    assert apart == whole
    assert sum(bool(row[3]) for row in whole) > 100


def test_a_reader_of_a_part_computes_the_digest_of_the_part(
    wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(text_of(reference[0], wdbc.schema.names, b"\n"))
    parts = scan(path, 1).parts
    for part, reader in zip(parts, parts_of(path, wdbc, parts), strict=True):
        rows_of(reader)
        assert reader.sha256 == part.sha256


def test_a_defect_in_a_later_part_has_its_line_number_in_the_file(
    wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    data = text_of(reference[0], wdbc.schema.names, b"\r\n").rstrip() + b'\r\n"open'
    path.write_bytes(data)
    parts = scan(path, 1).parts
    with pytest.raises(FileRefused) as whole:
        rows_of(open_table(path, wdbc.schema, wdbc.labels, read_labels=False))
    with pytest.raises(FileRefused) as apart:
        _ = [rows_of(reader) for reader in parts_of(path, wdbc, parts)]
    assert str(apart.value) == str(whole.value)
    assert whole.value.defects[0].line == data.count(b"\n") + 1


def test_a_file_without_header_is_split_too(
    wdbc: Problem, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    first = b",".join(b"%r" % cell for cell in reference[0][0].tolist())
    path.write_bytes(text_of(reference[0], wdbc.schema.names, b"\n", header=first))
    whole = rows_of(open_table(path, wdbc.schema, wdbc.labels, read_labels=False))
    parts = scan(path, 1).parts
    assert [row for each in parts_of(path, wdbc, parts) for row in rows_of(each)] == whole


@pytest.mark.parametrize("data", [b"", b"PAR1" + b"a\n" * LEAST_PART_BYTES, b"x\r" * 400_000])
def test_a_file_that_cannot_be_split_is_one_part(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(data)
    (part,) = scan(path, 1).parts
    assert (part.start, part.end, part.first_line) == (0, len(data), 1)


def test_line_counts_do_not_depend_on_the_size_of_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\r\n" * 120_000)
    expected = scan(path, 1)
    monkeypatch.setattr("bc_pipeline.tables.parts._READ_BYTES", 7)
    # The cuts may fall elsewhere; the lines at them may not.
    for part in scan(path, 1).parts:
        assert part.first_line == part.start // 5 + 1
    assert scan(path, 1).sha256 == expected.sha256
