"""Small Parquet files that would unpack to gigabytes are read in bounded memory, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bc_pipeline.problems.base import Problem

# Memory that the reader may use beside Python, NumPy and Arrow.
_MOST_MB = 250
_READ = """
import json, resource, sys
from pathlib import Path
from bc_pipeline.errors import DataError
from bc_pipeline.problems import get_problem
from bc_pipeline.tables.reader import open_table
import pyarrow.compute, pyarrow.parquet
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, problem = peak(), get_problem("wdbc")
rows = bad = 0
refused = ""
try:
    with open_table(Path(sys.argv[1]), problem.schema, problem.labels) as reader:
        for block in reader:
            rows, bad = rows + len(block), bad + len(block.defects)
except DataError as error:
    refused = str(error)
print(json.dumps([rows, bad, refused, peak() - before]))
"""


@pytest.fixture
def table(wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Callable[..., dict[str, Any]]:
    def make(rows: int) -> dict[str, Any]:
        columns: dict[str, Any] = {
            name: pa.array(np.full(rows, value))
            for name, value in zip(wdbc.schema.names, reference[0][0], strict=True)
        }
        return columns | {"diagnosis": _repeated("M", rows)}

    return make


def _repeated(text: str, rows: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "int32")), pa.array([text]))


def _measure(path: Path) -> tuple[int, int, str]:
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], capture_output=True, check=True, timeout=300
    )
    rows, bad, refused, megabytes = json.loads(done.stdout)
    assert megabytes < _MOST_MB
    return rows, bad, refused


@pytest.mark.integration
@pytest.mark.parametrize("group", [100_000, 3_000_000])
def test_millions_of_rows_in_half_a_megabyte(
    tmp_path: Path, table: Callable[..., dict[str, Any]], group: int
) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table(table(3_000_000)), path, compression="zstd", row_group_size=group)
    assert path.stat().st_size < 600_000
    assert _measure(path) == (3_000_000, 0, "")


@pytest.mark.integration
def test_one_text_of_megabytes_that_every_row_refers_to(
    tmp_path: Path, table: Callable[..., dict[str, Any]]
) -> None:
    path = tmp_path / "rows.parquet"
    columns = table(9000) | {"id": _repeated("x" * 10_000_000, 9000)}
    parquet.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000
    assert _measure(path)[:2] == (9000, 9000)


@pytest.mark.integration
def test_texts_that_unpack_to_gigabytes(
    tmp_path: Path, table: Callable[..., dict[str, Any]]
) -> None:
    path = tmp_path / "rows.parquet"
    columns = table(100) | {"id": pa.array(["x" * 5_000_000] * 100, pa.large_string())}
    parquet.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False)
    rows, _, refused = _measure(path)
    assert rows == 0
    assert "unpacks to over 20 times its size" in refused


@pytest.mark.integration
def test_metadata_of_tens_of_thousands_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({f"c{number}": [1.0] for number in range(50_000)}), path)
    assert "bytes of metadata" in _measure(path)[2]


@pytest.mark.integration
@pytest.mark.parametrize("depth", [100, 600])
def test_a_column_of_columns_of_columns(
    tmp_path: Path, table: Callable[..., dict[str, Any]], depth: int
) -> None:
    kind = pa.int8()
    for _ in range(depth):
        kind = pa.struct([("a", kind)])
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table(table(1) | {"deep": pa.nulls(1, kind)}), path)
    rows, _, refused = _measure(path)
    assert rows == 0
    assert refused


@pytest.mark.integration
def test_ids_of_a_dictionary_are_those_of_plain_text(
    tmp_path: Path, table: Callable[..., dict[str, Any]]
) -> None:
    columns = table(4) | {"id": pa.array(["a", "", None, "y" * 201])}
    for name, dictionary in (("plain", False), ("encoded", True)):
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table(columns), path, use_dictionary=dictionary)
        assert _measure(path) == (4, 3, "")
