from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bc_pipeline.names import is_number
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.tables.numbers import parse_numbers
from bc_pipeline.tables.reader import open_table

CELLS = st.one_of(
    st.floats().map(repr),
    st.text("0123456789+-.eE", min_size=1, max_size=8),
    st.text("01.eE+-_xXnaifINFNaty \t", max_size=9),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
)


def is_decimal(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell.strip(" \t"), re.ASCII))


def value_of(cell: str) -> float:
    """What a cell means by Python's own reading; NaN where it is no finite number."""
    value = float(cell.strip(" \t")) if is_decimal(cell) else math.nan
    return value if math.isfinite(value) else math.nan


@given(cells=st.lists(CELLS, min_size=1, max_size=20))
@example(cells=["+-1", "-+1", "++1", "1e400", "-1e400", "1e-400", "nan(1)", "1_0", "0x1p3", "1."])
def test_numbers_are_parsed_as_python_parses_them(cells: list[str]) -> None:
    values, defects = parse_numbers(pa.array(cells))

    expected = [value_of(cell) for cell in cells]
    assert np.array_equal(values, expected, equal_nan=True)
    reported = sorted(row for rows in defects.values() for row in rows.tolist())
    assert reported == [row for row, value in enumerate(expected) if math.isnan(value)]
    assert [is_number(cell) for cell in cells] == [is_decimal(cell) for cell in cells]


@given(cell=CELLS)
@example(cell="+-1")
@example(cell="\t+.5e-3 ")
@example(cell="4.9e-324")
def test_the_fast_conversion_accepts_only_what_the_text_parser_accepts(
    tmp_path_factory: pytest.TempPathFactory, pair: FeatureSchema, cell: str
) -> None:
    """Whole chunks of sound numbers skip the text: they must not take what text would not."""
    path = tmp_path_factory.getbasetemp() / "cell.csv"
    path.write_text(f"low,high\n{cell},1e300\n", newline="")

    with open_table(path, pair) as reader:
        (block,) = reader

    value = value_of(cell)
    readable = not math.isnan(value)
    assert np.array_equal(block.values[0], [value, 1e300], equal_nan=True)
    assert bool(block.defects) is (not readable or abs(value) > 1e300)
