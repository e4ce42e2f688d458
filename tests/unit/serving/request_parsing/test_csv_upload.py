from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bc_pipeline.errors import Defect, FileRefused, PipelineError, SchemaMismatch
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.serving import error_responses
from bc_pipeline.serving.request_parsing import csv_upload
from bc_pipeline.serving.request_parsing.csv_upload import MAX_DEFECTS, SOURCE, read_rows
from bc_pipeline.tables.blocks import Block
from bc_pipeline.tables.writer import neutral_cell
from tests.contract.hostile_csv import FILES, GOOD, HEADER, ROW, WITH_ID, Hostile

CASES = pytest.mark.parametrize("hostile", FILES, ids=lambda hostile: hostile.name)
PATH = "8c1f-secret-name.tmp"
ROWS = 1_000_000
# Bounds of one upload, whatever it holds: CPU time in loops of `tests.cpu_time`, and memory.
LOOPS, MEBIBYTES = 40, 100


def blocks(path: Path, problem: Problem, row_limit: int = ROWS) -> list[Block]:
    return list(read_rows(path, problem.schema, problem.labels, row_limit=row_limit))


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return tmp_path / PATH


@CASES
def test_every_hostile_upload_is_read_or_refused_as_listed(
    hostile: Hostile, upload: Path, wdbc: Problem
) -> None:
    content = hostile.make()
    # The whole of a refused one is sent by tests/contract/test_csv_corpus.py.
    upload.write_bytes(content[: 1 << 20] if hostile.code else content)
    if hostile.code is None:
        found = blocks(upload, wdbc)
        assert sum(map(len, found)) == hostile.rows
        assert sum(len(block.defects) for block in found) == hostile.bad
        for block in found:
            assert np.isfinite(block.values[block.accepted]).all()
        return
    with pytest.raises(PipelineError) as caught:
        blocks(upload, wdbc)
    assert caught.value.code == hostile.code
    assert isinstance(caught.value, FileRefused | SchemaMismatch)
    assert caught.value.defects
    assert caught.value.source == SOURCE
    answer = error_responses.from_error(caught.value)
    assert answer.status_code == 422
    content = json.loads(answer.body)
    assert content["detail"].startswith(SOURCE)
    # The remedy of the reader of local files, which reads Parquet too.
    assert "or Parquet" not in content["detail"]
    assert len(content["defects"]) == len(caught.value.defects) <= 101
    assert PATH not in str(caught.value)
    assert PATH.encode() not in bytes(answer.body)


_PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from bc_pipeline.errors import PipelineError
from bc_pipeline.problems import get_problem
from bc_pipeline.serving.request_parsing.csv_upload import read_rows
from tests.cpu_time import within_loops

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

problem = get_problem("wdbc")
def read(path):
    try:
        for block in read_rows(path, problem.schema, problem.labels, row_limit=1_000_000):
            pass
    except PipelineError:
        pass

folder = Path(sys.argv[1])
read(folder / "warm")
before = memory()
costs = {}
for path in sorted(folder.iterdir()):
    start = time.process_time()
    read(path)
    seconds = time.process_time() - start
    costs[path.name] = (seconds, within_loops(seconds, int(sys.argv[2])), memory() - before)
print(json.dumps(costs))
"""


@pytest.mark.integration
def test_cpu_time_and_memory_of_hostile_uploads_are_bounded(tmp_path: Path) -> None:
    """All of them one after the other in a process of their own, after a good one."""
    (tmp_path / "warm").write_bytes(GOOD)
    for number, hostile in enumerate(FILES):
        (tmp_path / f"{number:03}").write_bytes(hostile.make())

    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path), str(LOOPS)],
        capture_output=True,
        text=True,
        check=True,
    )

    costs = json.loads(run.stdout)
    assert len(costs) == len(FILES) + 1
    names = {f"{number:03}": hostile.name for number, hostile in enumerate(FILES)}
    assert {names[key]: cost[0] for key, cost in costs.items() if not cost[1]} == {}
    assert max(cost[2] for cost in costs.values()) <= MEBIBYTES


def test_an_id_that_is_a_formula_is_escaped_only_when_written(upload: Path, wdbc: Problem) -> None:
    upload.write_bytes(WITH_ID + b"=1+1," + ROW + b"a-1," + ROW)
    (block,) = blocks(upload, wdbc)
    assert list(block.ids) == ["=1+1", "a-1"]
    assert [neutral_cell(name or "") for name in block.ids] == ["'=1+1", "a-1"]


def test_labels_are_ignored_or_read(upload: Path, wdbc: Problem) -> None:
    upload.write_bytes(b"diagnosis," + HEADER + b"M," + ROW + b"x," + ROW)
    (ignored,) = blocks(upload, wdbc)
    assert ignored.codes is None
    assert not ignored.defects
    (block,) = read_rows(upload, wdbc.schema, wdbc.labels, read_labels=True, row_limit=9)
    assert block.codes is not None
    assert block.codes.tolist() == [0, -1]
    assert block.defects == {1: [Defect("is not malignant or benign", 3, "diagnosis")]}


def test_a_missing_label_column_is_a_defect_where_labels_are_read(
    upload: Path, wdbc: Problem
) -> None:
    upload.write_bytes(GOOD)
    with pytest.raises(SchemaMismatch) as caught:
        list(read_rows(upload, wdbc.schema, wdbc.labels, read_labels=True, row_limit=9))
    assert caught.value.defects == (Defect("is missing", column="diagnosis"),)


def test_too_many_rows_are_refused(upload: Path, wdbc: Problem) -> None:
    upload.write_bytes(HEADER + 500 * ROW)
    assert sum(map(len, blocks(upload, wdbc, row_limit=500))) == 500
    with pytest.raises(FileRefused) as caught:
        blocks(upload, wdbc, row_limit=499)
    assert caught.value.defects == (Defect("has more than 499 rows"),)
    assert "several parts" in caught.value.remedy


def test_rows_before_too_many_defects_are_yielded(upload: Path, wdbc: Problem) -> None:
    upload.write_bytes(HEADER + 900 * ROW + b"1\n" * (MAX_DEFECTS + 20_000))
    given = 0

    def read() -> None:
        nonlocal given
        for block in read_rows(upload, wdbc.schema, row_limit=ROWS):
            given += int(block.accepted.sum())

    with pytest.raises(FileRefused) as caught:
        read()
    assert given >= 400
    (defect,) = caught.value.defects
    assert defect.reason.startswith(f"has more than {MAX_DEFECTS} defects up to line ")


def test_a_defect_of_the_file_names_its_line(upload: Path, wdbc: Problem) -> None:
    upload.write_bytes(GOOD + b"\xff,\n")
    with pytest.raises(FileRefused) as caught:
        blocks(upload, wdbc)
    content = json.loads(error_responses.from_error(caught.value).body)
    assert content["defects"] == [{"line": 5, "feature": None, "reason": "is not UTF-8 text"}]


def test_a_valid_upload_is_read_exactly(
    upload: Path, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    rows = "".join(",".join(map(repr, row)) + "\n" for row in values.tolist())
    upload.write_bytes(HEADER + rows.encode())
    found = blocks(upload, wdbc)
    assert len(found) > 1, "the blocks are small"
    assert np.array_equal(np.concatenate([block.values for block in found]), values)


PIECES = st.sampled_from(
    [b",", b"\n", b"\r", b'"', b"'", b";", b" ", b"\0", b"=", b"1", b"1e", b"nan", b"\xff", HEADER,
     ROW, ROW[:40], HEADER[:50], b"id,", b"diagnosis", b"\xef\xbb\xbf", "é".encode(), b"PAR1"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=400),
        st.lists(PIECES, max_size=40).map(b"".join),
        st.lists(PIECES, max_size=20).map(lambda pieces: GOOD + b"".join(pieces)),
        st.lists(PIECES, max_size=20).map(lambda pieces: WITH_ID + b"".join(pieces)),
    ),
    block_bytes=st.sampled_from([16, 300, 1 << 15]),
)
def test_any_bytes_are_read_or_refused(
    content: bytes, block_bytes: int, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_upload, "_BLOCK_BYTES", block_bytes)
    upload.write_bytes(content)
    refused: PipelineError | None = None
    found: list[Block] = []
    try:
        found = blocks(upload, get_problem("wdbc"))
    except PipelineError as error:
        refused = error
    assert refused is None or isinstance(refused, FileRefused | SchemaMismatch)
    assert PATH not in str(refused)
    for block in found:
        assert np.isfinite(block.values[block.accepted]).all()
