from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from bc_pipeline.errors import Defect
from bc_pipeline.tables.writer import (
    Kind,
    Layout,
    TableWriter,
    defect_columns,
    neutral_cell,
    probability_text,
)

COLUMNS: dict[str, Kind] = {"id": "text", "code": "integer", "p": "number"}


def read(path: Path, layout: Layout) -> list[list[object]]:
    if layout == "parquet":
        return [list(row.values()) for row in parquet.read_table(path).to_pylist()]
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == list(COLUMNS)
    return [[name or None, int(code), float(p)] for name, code, p in rows]


@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
            st.integers(-5, 5),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=20,
    ),
    layout=st.sampled_from(["csv", "parquet"]),
)
def test_rows_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, int, float]],
    layout: Layout,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"out.{layout}"

    with TableWriter(path, COLUMNS, layout) as writer:
        for part in (rows[:3], rows[3:]):
            names, codes, numbers = (
                [list(column) for column in zip(*part, strict=True)] if part else ([], [], [])
            )
            writer.write({"id": names, "code": np.array(codes, dtype=int), "p": numbers})

    assert read(path, layout) == [list(row) for row in rows]


@given(number=st.floats(0, 1) | st.floats(0, 1e-5))
def test_a_probability_has_the_same_digits_without_arrow(
    tmp_path_factory: pytest.TempPathFactory, number: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "number.csv"
    with TableWriter(path, {"p": "number"}, "csv") as writer:
        writer.write({"p": [abs(number)]})
    assert path.read_text() == f"p\n{probability_text(abs(number))}\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(8.72e-05, "0.0000872"), (1e-6, "0.000001"), (1.5e-07, "1.5e-7"), (1.0, "1")],
)
def test_a_probability_has_an_exponent_only_below_a_millionth(number: float, text: str) -> None:
    assert probability_text(number) == text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_formula_is_escaped_in_csv_only(start: str, tmp_path: Path) -> None:
    names = [f"{start}1+1", f"a{start}b", None, 'q"u,o\nte']
    for layout in ("csv", "parquet"):
        with TableWriter(tmp_path / layout, {"id": "text", "note": "text"}, layout) as writer:
            writer.write({"id": names, "note": names})

    with (tmp_path / "csv").open(newline="") as stream:
        _, *rows = csv.reader(stream)
    assert [row[0] for row in rows] == [f"'{start}1+1", f"a{start}b", "", 'q"u,o\nte']
    assert all(first == second for first, second in rows)
    assert parquet.read_table(tmp_path / "parquet")["id"].to_pylist() == names


@given(
    cells=st.lists(
        st.one_of(
            st.text(st.sampled_from("=+-@\t\r\n \uff1d\uff0d1.5eEx'\""), max_size=6),
            st.text(max_size=6),
            st.floats(allow_nan=False, allow_infinity=False).map(repr),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_single_cells_and_columns_are_escaped_alike(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    with TableWriter(path, {"id": "text", "n": "integer"}, "csv") as writer:
        writer.write({"id": cells, "n": list(range(len(cells)))})

    with path.open(newline="", encoding="utf-8") as stream:
        _, *rows = csv.reader(stream)
    assert [row[0] for row in rows] == [neutral_cell(cell) for cell in cells]


@pytest.mark.parametrize("number", ["-5", "+1.5", "-1e-7", "-.5", "12"])
def test_a_signed_number_is_not_escaped(number: str) -> None:
    assert neutral_cell(number) == number


@pytest.mark.parametrize("cell", ["-5+cmd|' /C calc'!A0", "=1", "+", "-", "-1-1", "@SUM(1)"])
def test_text_that_starts_like_a_number_is_escaped(cell: str) -> None:
    assert neutral_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("layout", ["csv", "parquet"])
def test_a_table_without_rows_has_its_columns(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "out"

    with TableWriter(path, COLUMNS, layout):
        pass

    assert read(path, layout) == []


def test_small_blocks_are_gathered_into_parquet_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"

    with TableWriter(path, {"p": "number"}, "parquet") as writer:
        for start in range(0, 140_000, 1000):
            writer.write({"p": np.arange(start, start + 1000, dtype=float)})

    assert parquet.ParquetFile(path).num_row_groups == 3
    assert np.array_equal(parquet.read_table(path)["p"].to_numpy(), np.arange(140_000.0))


def test_a_table_of_defects_has_no_id_that_a_terminal_obeys_or_that_fills_a_page() -> None:
    named = [
        (name, Defect("is not a number")) for name in ("Ä 1", "a\x1b[31mRED", "x" * 20_000, None)
    ]
    assert defect_columns(named)["id"] == ["Ä 1", "a\ufffd[31mRED", "x" * 200 + "\u2026", None]
