"""The worst uploads, over HTTP, on every route that takes CSV.

Memory and CPU time are those of a real service; `tests/unit/serving/test_batches.py`
sends the whole corpus to one in process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.hostile_csv import FILES, GOOD, HEADER, ROW
from tests.contract.hostile_json import DIGITS
from tests.contract.measured import LOOPS, MEBI, MEMORY, Measured, measured_service
from tests.cpu_time import within_loops

CSV = {"Content-Type": "text/csv"}
OUTCOMES = "/v1/outcomes"
ROUTES = ("/v1/predict/batch", "/v1/labelled-data", "/upload-data", OUTCOMES, "/invocations")
# Those that took the most time or memory, or broke a reader, when the corpus was made.
WORST = {
    "200,000 columns",
    "200,000 values without header",
    "900 names that are nearly right",
    "NUL bytes up to the limit",
    "UTF-16",
    "a bad cell now and then up to the limit",
    "a bad line now and then up to the limit",
    "blank lines between rows",
    "blank lines up to the limit",
    "empty cells up to the limit",
    "gzip bomb",
    "long numbers up to the limit",
    "one field up to the limit",
    "one line up to the limit",
    "quotes up to the limit",
    "ragged rows up to the limit",
    "text up to the limit",
    "unclosed quote up to the limit",
    "zip",
}
# Rows that are answered take their time: a hundred thousand of them are no attack.
ANSWERED_LOOPS = 160


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps uploads while it reads them."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, releases_in: Any, fitted: Any, uploads: Path
) -> Iterator[Measured]:
    folder = tmp_path_factory.mktemp("csv")
    with measured_service(folder, releases_in, fitted[0], TMPDIR=str(uploads)) as service:
        service.wait_for_database()
        # Modules that the first request loads do not count as growth.
        for path in ROUTES:
            for body in (GOOD, HEADER.replace(b"\n", b",diagnosis\n") + ROW[:-1] + b",M\n"):
                service.ask("POST", path, body, CSV)
        service.warm()
        yield service


def test_the_worst_files_are_of_the_corpus() -> None:
    assert {case.name for case in FILES} > WORST


@pytest.mark.parametrize("path", ROUTES)
def test_hostile_files(service: Measured, path: str) -> None:
    wrong = []
    for case in FILES:
        if case.name not in WORST:
            continue
        body = case.make()
        # Larger bodies are refused with 413; the corpus of JSON tests that.
        reply = service.ask("POST", path, body[:MEBI] if path == OUTCOMES else body, CSV)
        loops = ANSWERED_LOOPS if reply.status in (200, 201) else LOOPS
        if reply.status >= 500:
            wrong.append((case.name, reply.status, reply.body[:300]))
        if reply.status >= 400:
            assert reply.problem["status"] == reply.status
        if not within_loops(reply.seconds, loops):
            wrong.append((case.name, f"{reply.seconds:.2f} s", reply.body[:100]))
        if service.grown > MEMORY:
            wrong.append((case.name, f"{service.grown // MEBI} MiB more", reply.body[:100]))
            service.warm()
    assert wrong == []
    assert service.alive()


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("cells", [2, 4, 29, 30, 31, 32])
def test_a_row_is_not_taken_for_a_header(service: Measured, path: str, cells: int) -> None:
    # The first cell may be the client's own id, which an answer gives back.
    body = (",".join(["1", *["73519.625"] * (cells - 1)]) + "\n").encode() * 3
    reply = service.ask("POST", path, body, CSV)
    assert reply.status in (200, 422)
    assert DIGITS not in reply.body


@pytest.mark.parametrize(
    "body",
    [
        b"," * (MEBI - 1),
        b"a," * (MEBI // 2 - 1),
        b"prediction_id,diagnosis\n" + b"a,b\n" * 200_000,
        b"prediction_id,diagnosis\n" + b"\n" * 1_000_000,
        b'prediction_id,diagnosis\n"' + b"a" * 1_000_000,
        b"prediction_id,diagnosis," + b"prediction_id," * 70_000 + b"\n",
    ],
    ids=["empty names", "one name", "rows", "lines", "quote", "known names"],
)
def test_hostile_outcomes(service: Measured, body: bytes) -> None:
    reply = service.ask("POST", OUTCOMES, body, CSV)
    assert reply.status in (400, 422)
    assert within_loops(reply.seconds, LOOPS)
    assert len(reply.body) < 100_000
    assert service.grown < MEMORY


def test_uploads_leave_no_file_behind(service: Measured, uploads: Path) -> None:
    for case in FILES:
        if case.name in WORST:
            service.ask("POST", "/v1/labelled-data", case.make()[:MEBI], CSV)
    assert list(uploads.glob("bc-upload-*")) == []
