"""Columns without a name of their own, in CSV and in Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bc_pipeline.errors import FileRefused, SchemaMismatch
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.tables.reader import open_table
from bc_pipeline.tables.table_reader import TableReader

NAMES = WDBC.schema.names
VALUES = WDBC.load_reference().values[:6]
UNNAMED = ["", "Unnamed: 32", "Unnamed: 0.1", "X", "X.1", "__index_level_0__", "index", "...33"]


def table(
    path: Path, name: str, cells: Sequence[Any], *, at: int = 30, block_bytes: int = 1 << 20
) -> TableReader:
    names = [*NAMES[:at], name, *NAMES[at:]]
    values = np.resize(VALUES, (len(cells), len(NAMES)))
    if path.suffix == ".csv":
        lines = [",".join(f'"{one}"' for one in names)]
        for row, cell in zip(values.tolist(), cells, strict=True):
            texts = list(map(repr, row))
            lines.append(",".join([*texts[:at], "" if cell is None else str(cell), *texts[at:]]))
        path.write_text("\n".join(lines) + "\n")
    else:
        columns = [pa.array(values[:, index]) for index in range(len(NAMES))]
        columns.insert(at, pa.array(cells))
        parquet.write_table(pa.table(columns, names=names), path)
    return open_table(path, WDBC.schema, WDBC.labels, read_labels=False, block_bytes=block_bytes)


@pytest.fixture(params=["csv", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"rows.{request.param}"


@pytest.mark.parametrize("name", UNNAMED)
@pytest.mark.parametrize("at", [0, 15, 30])
def test_an_empty_or_running_column_is_passed_over_with_a_word(
    path: Path, name: str, at: int
) -> None:
    floats = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    for cells in ([None] * 6, range(6), range(1, 7), range(40, 46), floats):
        with table(path, name, list(cells), at=at) as reader:
            assert [len(block.defects) for block in reader] == [0]
            said = f"column {at + 1} has no name of its own and was passed over"
            assert reader.notices == (said,)


@pytest.mark.parametrize("name", UNNAMED)
@pytest.mark.parametrize(
    "cells",
    [
        [3, 17, 150, 151, 1200, 1999],
        [0, 400, 900, 901, 950, 1000.0],
        # Filtered exports, joined.
        [*range(10, 190, 9), *range(5, 205, 11)],
    ],
)
def test_the_index_of_filtered_rows_is_passed_over(path: Path, name: str, cells: list[Any]) -> None:
    with table(path, name, cells) as reader:
        assert [len(block.defects) for block in reader] == [0]
        assert len(reader.notices) == 1


@pytest.mark.parametrize("name", ["", "Unnamed: 32", "X"])
@pytest.mark.parametrize(
    "cells",
    [
        ["a", "b", "c", "d", "e", "f"],
        [0.5, 1.5, 2.5, 3.5, 4.5, 5.5],
        [842302, 842517, 84300903, 84348301, 84358402, 843786],
        [842302, 842517, 843786, 84300903, 84348301, 84358402],
        [6, 5, 4, 3, 2, 1],
        [17, 3, 21, 12, 19, 11],
        ["a", None, "c", "d", "e", None],
    ],
)
def test_a_column_that_holds_something_is_a_defect(path: Path, name: str, cells: list[Any]) -> None:
    with pytest.raises(SchemaMismatch, match="column 31 has no name, and is neither empty nor a"):
        table(path, name, cells)


def test_a_single_text_in_an_empty_column_is_a_defect_of_its_row(path: Path) -> None:
    with table(path, "Unnamed: 32", [None, None, "note", None, None, None]) as reader:
        (block,) = reader
    assert list(block.defects) == [2]
    assert "neither empty nor a running number" in block.defects[2][0].reason


@pytest.mark.parametrize("block_bytes", [1 << 10, 30 << 10, 1 << 20])
@pytest.mark.parametrize(
    ("cells", "bad"),
    [
        # A restart of the numbers, a gap, and a number that is left out.
        ([*map(str, range(300)), *map(str, range(300))], []),
        ([*map(str, range(300)), *map(str, range(900, 1200))], []),
        ([*map(str, range(400)), "", *map(str, range(400, 599))], []),
        ([*map(str, range(300)), "note", *map(str, range(300, 599))], [300]),
        ([*map(str, range(300)), *map(str, np.arange(300) / 8 + 0.1)], list(range(300, 600))),
        ([*[""] * 300, "7", *[""] * 299], [300]),
        ([*[""] * 300, *map(str, range(300))], list(range(300, 600))),
    ],
)
def test_the_first_rows_decide_what_a_spare_column_holds_whatever_the_blocks(
    path: Path, cells: list[str], bad: list[int], block_bytes: int
) -> None:
    with table(path, "", cells, block_bytes=block_bytes) as reader:
        found = [int(block.lines[row]) for block in reader for row in block.defects]
    first = 2 if path.suffix == ".csv" else 1
    assert found == [row + first for row in bad]


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = [*(pa.array(VALUES[:, index]) for index in range(len(NAMES))), *[pa.nulls(6)] * 2]
    parquet.write_table(pa.table(columns, names=[*NAMES, "", ""]), path)
    with pytest.raises(FileRefused, match="several columns of one name"):
        open_table(path, WDBC.schema)


def test_a_running_number_may_skip_rows_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with table(path, "", list(range(6))):
        pass
    lines = path.read_text().splitlines()
    lines[2] = "ragged"
    path.write_text("\n".join(lines) + "\n")
    with open_table(path, WDBC.schema) as reader:
        (block,) = reader
    assert list(block.defects) == [1]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("radius", None),
        ("texture", None),
        ("concave_point", None),
        ("radius4", None),
        ("mean_radus", "mean_radius"),
        ("worst smothness", "worst_smoothness"),
        ("radius_men", "mean_radius"),
        ("symetry_se", "symmetry_error"),
    ],
)
def test_a_hint_is_given_where_exactly_one_feature_fits(name: str, hint: str | None) -> None:
    assert WDBC.schema.suggest(name) == hint
