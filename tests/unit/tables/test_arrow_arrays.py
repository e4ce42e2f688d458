from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.problems import get_problem
from bc_pipeline.tables.arrow_arrays import chosen_texts, number_array, numbers_of, text_array
from bc_pipeline.tables.writer import Kind, Layout, TableWriter


@given(st.lists(st.none() | st.text(max_size=12), max_size=20))
def test_texts_become_the_array_that_arrow_makes(texts: list[str | None]) -> None:
    array = text_array(texts)
    array.validate(full=True)
    assert array.equals(pa.array(texts, pa.string()))


@given(st.lists(st.text(max_size=9), max_size=4), st.lists(st.integers(-1, 3), max_size=20))
def test_chosen_texts_become_the_array_that_arrow_makes(texts: list[str], index: list[int]) -> None:
    index = [min(place, len(texts) - 1) for place in index]
    array = chosen_texts(texts, np.array(index, np.int64))
    array.validate(full=True)
    expected = [None if place < 0 else texts[place] for place in index]
    assert array.equals(pa.array(expected, pa.string()))


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.int8])
def test_numbers_become_the_array_that_arrow_makes(kind: type) -> None:
    numbers = np.arange(10).astype(kind)[::3]
    array = number_array(numbers)
    assert array.equals(pa.array(numbers))
    assert array.to_pylist() == [0, 3, 6, 9]


@given(st.lists(st.none() | st.floats(), max_size=20), st.integers(0, 3))
def test_the_numbers_of_an_array_have_nan_for_nulls(
    numbers: list[float | None], start: int
) -> None:
    array = pa.array(numbers, pa.float64()).slice(start)
    expected = [np.nan if number is None else number for number in numbers[start:]]
    np.testing.assert_array_equal(numbers_of(array), np.array(expected))


@pytest.mark.parametrize("layout", ["csv", "parquet"])
def test_a_sound_table_is_read_and_written_without_pandas(layout: Layout, tmp_path: Path) -> None:
    problem = get_problem("wdbc")
    values, names = problem.load_reference().values, problem.schema.names
    source, copy = tmp_path / f"rows.{layout}", tmp_path / f"copy.{layout}"
    kinds: dict[str, Kind] = {"id": "text", **dict.fromkeys(names, "number")}
    with TableWriter(source, kinds, layout) as writer:
        ids = [f"p{row}" for row in range(len(values))]
        writer.write({"id": ids, **dict(zip(names, values.T, strict=True))})
    code = f"""
import sys
from pathlib import Path
from bc_pipeline.problems import get_problem
from bc_pipeline.tables.reader import open_table
from bc_pipeline.tables.writer import TableWriter

schema = get_problem("wdbc").schema
with open_table(Path({str(source)!r}), schema, read_labels=False) as reader:
    (block,) = reader
with TableWriter(Path({str(copy)!r}), {kinds!r}, {layout!r}) as writer:
    writer.write({{"id": block.ids.array}} | dict(zip(schema.names, block.values.T)))
assert "pandas" not in sys.modules, "loaded"
assert {layout!r} == "parquet" or "pyarrow.compute" not in sys.modules, "loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert copy.read_bytes() == source.read_bytes()
