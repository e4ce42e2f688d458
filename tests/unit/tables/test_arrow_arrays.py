from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.tables.arrow_arrays import number_array, numbers_of, text_array


@given(st.lists(st.none() | st.text(max_size=12), max_size=20))
def test_texts_become_the_array_that_arrow_makes(texts: list[str | None]) -> None:
    array = text_array(texts)
    array.validate(full=True)
    assert array.equals(pa.array(texts, pa.string()))


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


def test_no_conversion_imports_pandas() -> None:
    code = """
import sys
import numpy as np
from bc_pipeline.tables.arrow_arrays import number_array, numbers_of, text_array

assert numbers_of(number_array(np.ones(3))).sum() == 3
assert text_array(["a", None]).to_pylist() == ["a", None]
assert "pandas" not in sys.modules, "loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
