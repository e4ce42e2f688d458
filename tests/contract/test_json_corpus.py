"""JSON that hurts, over HTTP, on every route that takes JSON.

A real service answers. Whatever comes: no answer of 5xx, none that repeats a value, bounded CPU
time for each, and never more than 100 MB beyond what the service has.
"""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.hostile_json import BODIES, DIGITS, VALUES, filled
from tests.contract.measured import LOOPS, MEBI, MEMORY, Measured, Reply, measured_service
from tests.cpu_time import within_loops
from tests.e2e.service_process import KEY
from tests.waiting import PATIENCE

SLOW_SECONDS = 2.0
NOBODY = "01900000-0000-7000-8000-000000000000"
HOLE = "<>"
JSON = {"Content-Type": "application/json"}
INFER = "/v2/models/wdbc/infer"
Shape = Callable[[dict[str, Any]], Any]


def _columns(record: dict[str, Any]) -> dict[str, Any]:
    return {name: [value] for name, value in record.items()}


def _tensor(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = list(record.values())
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 30], "data": values}
    return {"inputs": [tensor | changes]}


def _sound(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"mean_area": 1001.0}


def _outcome(**changes: Any) -> dict[str, Any]:
    return {"prediction_id": NOBODY, "diagnosis": "malignant"} | changes


# Positions of a value: the route, and its body with a gap for the value. In the record that is
# given, the area is the hole.
PLACES: list[tuple[str, str, Shape]] = [
    ("/predict", "named", lambda r: r),
    ("/v1/predict", "list", lambda r: {"features": list(r.values())}),
    ("/v1/predict", "id", lambda r: {"features": _sound(r), "id": HOLE}),
    ("/v1/predict", "all", lambda r: {"features": HOLE}),
    ("/v1/predict?explain=false", "named", lambda r: {"features": r}),
    ("/v1/predict?explain=true", "list", lambda r: {"features": list(r.values())}),
    ("/v1/explain", "named", lambda r: r),
    ("/v1/predict/batch", "one of two", lambda r: [r, _sound(r)]),
    ("/v1/predict/batch", "record", lambda r: [HOLE]),
    ("/v1/outcomes", "prediction_id", lambda r: _outcome(prediction_id=HOLE)),
    ("/v1/outcomes", "diagnosis", lambda r: _outcome(diagnosis=HOLE)),
    ("/v1/outcomes", "observed_at", lambda r: [_outcome(observed_at=HOLE)]),
    ("/v1/outcomes", "correction", lambda r: _outcome(correction=HOLE)),
    ("/v1/outcomes", "another", lambda r: _outcome(another=HOLE)),
    ("/v1/outcomes", "report", lambda r: [HOLE]),
    ("/v1/retrain", "as_of", lambda r: {"as_of": HOLE}),
    ("/retrain", "require_approval", lambda r: {"require_approval": HOLE}),
    (INFER, "data", _tensor),
    (INFER, "shape", lambda r: _tensor(_sound(r), shape=[HOLE, 30])),
    (INFER, "datatype", lambda r: _tensor(_sound(r), datatype=HOLE)),
    (INFER, "binary_data_size", lambda r: _tensor(_sound(r), parameters={
        "binary_data_size": HOLE})),
    (INFER, "id", lambda r: _tensor(_sound(r)) | {"id": HOLE}),
    (INFER, "outputs", lambda r: _tensor(_sound(r)) | {"outputs": [{"name": HOLE}]}),
    ("/v2/models/wdbc/versions/v1/infer", "parameters",
     lambda r: _tensor(_sound(r)) | {"parameters": {"binary_data_output": HOLE}}),
    ("/invocations", "split",
     lambda r: {"dataframe_split": {"columns": list(r), "data": [list(r.values())]}}),
    ("/invocations", "split column",
     lambda r: {"dataframe_split": {"columns": [HOLE, *list(r)[1:]], "data": [[1.0] * 30]}}),
    ("/invocations", "split index",
     lambda r: {"dataframe_split": {"index": HOLE, "data": [list(_sound(r).values())]}}),
    ("/invocations", "records", lambda r: {"dataframe_records": [r, _sound(r)]}),
    ("/invocations", "inputs", lambda r: {"inputs": _columns(r)}),
    ("/invocations", "instances", lambda r: {"instances": [list(r.values())]}),
    ("/invocations", "all", lambda r: {"instances": HOLE}),
]  # fmt: skip
ROUTES = sorted({path for path, _, _ in PLACES})
# Routes that take batches; the others take up to 1 MiB, retrain 4 KiB.
LARGE = {"/v1/predict/batch", INFER, "/v2/models/wdbc/versions/v1/infer", "/invocations"}


@pytest.fixture(scope="module")
def record(reference: Any, wdbc: Any) -> dict[str, Any]:
    """A good record whose area is the hole."""
    found = dict(zip(wdbc.schema.names, reference[0][0].tolist(), strict=True))
    return found | {"mean_area": HOLE}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    releases_in: Any,
    fitted: Any,
    record: dict[str, Any],
) -> Iterator[Measured]:
    folder = tmp_path_factory.mktemp("json")
    slow = {"BC_SLOW_CLIENT_SECONDS": str(SLOW_SECONDS)}
    with measured_service(folder, releases_in, fitted[0], **slow) as service:
        service.wait_for_database()
        # Modules that the first request loads do not count as growth.
        for path, _, shape in PLACES:
            service.ask("POST", path, filled(shape(record), b"1001.0"), headers(path))
        service.warm()
        yield service


def headers(path: str) -> dict[str, str]:
    return JSON | ({"Idempotency-Key": "one"} if "retrain" in path else {})


def fault(path: str, reply: Reply) -> str:
    """What is wrong with an answer, or an empty text."""
    if reply.status >= 500 and not (
        "retrain" in path and reply.status == 503 and reply.problem["code"] == "airflow-away"
    ):
        return f"status {reply.status}"
    if not within_loops(reply.seconds, LOOPS):
        return f"{reply.seconds:.2f} s of CPU time"
    if reply.status >= 400:
        response = reply.problem
        if response["code"] == "schema-mismatch" and not response["defects"]:
            return "no defects"
        if DIGITS in reply.body:
            return "a value is repeated"
    return ""


@pytest.mark.parametrize(
    ("path", "shape"),
    [pytest.param(path, shape, id=f"{path} {name}") for path, name, shape in PLACES],
)
def test_hostile_values(service: Measured, record: dict[str, Any], path: str, shape: Shape) -> None:
    wrong = []
    for name, value in VALUES.items():
        reply = service.ask("POST", path, filled(shape(record), value), headers(path))
        if found := fault(path, reply):
            wrong.append((name, found, reply.body[:300]))
    assert wrong == []
    assert service.alive()
    assert service.grown < MEMORY


@pytest.mark.parametrize("path", ROUTES)
def test_hostile_bodies(service: Measured, path: str) -> None:
    wrong = []
    for name, body in BODIES.items():
        reply = service.ask("POST", path, body, headers(path))
        # A batch of rows that cannot be used is answered, row by row.
        good = "batch" in path and reply.status == 200
        empty = "retrain" in path and name in ("empty", "empty object")
        if found := fault(path, reply):
            wrong.append((name, found, reply.body[:300]))
        elif not good and not empty and not 400 <= reply.status < 500:
            wrong.append((name, f"status {reply.status}", reply.body[:300]))
    assert wrong == []
    assert service.alive()
    assert service.grown < MEMORY


# Sound JSON that fills what a batch may hold: all of it is read before it is refused.
FULL: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: b"[" + b"1," * (8 * MEBI - 2) + b"1]",
    "lists": lambda: b"[" + b"[]," * (5 * MEBI) + b"[]]",
    "objects": lambda: b"[" + b"{}," * (5 * MEBI) + b"{}]",
    "names": lambda: b"{" + b",".join(b'"%06x":1' % at for at in range(1_300_000)) + b"}",
    "text": lambda: b'"' + b"7" * (15 * MEBI) + b'"',
    "wide text": lambda: b'"' + "\U0001f600".encode() * (15 * MEBI // 4) + b'"',
    "digits": lambda: b"7" * (15 * MEBI),
    "records": lambda: b"[" + b'{"features":[' + b"1," * 29 + b"1]}" * 1 + b"]",
    "10,000 records of text": lambda: json.dumps(
        [{"features": ["73519" * 8] * 30}] * 10_000
    ).encode(),
    "10,000 records of strange names": lambda: json.dumps(
        [{f"mean_{at}_aera": at for at in range(30)}] * 10_000
    ).encode(),
    "10,000 instances of text": lambda: json.dumps(
        {"instances": [["73519" * 8] * 30] * 10_000}
    ).encode(),
    "10,000 records that differ in names": lambda: json.dumps(
        {"dataframe_records": [{f"c{at}_{n}": 1 for n in range(3)} for at in range(10_000)]}
    ).encode(),
    "a tensor of text": lambda: json.dumps(
        _tensor({}, shape=[10_000, 30], data=["73519"] * 300_000)
    ).encode(),
    "a tensor of NaN": lambda: json.dumps(
        _tensor({}, shape=[10_000, 30], data=[float("nan")] * 300_000)
    ).encode(),
    "deep lists": lambda: b"[" * (15 * MEBI),
}


@pytest.mark.parametrize("path", sorted(LARGE))
def test_large_hostile_bodies(service: Measured, path: str) -> None:
    wrong = []
    for name, make in FULL.items():
        reply = service.ask("POST", path, make(), JSON)
        if found := fault(path, reply):
            wrong.append((name, found, reply.body[:300]))
        if service.grown > MEMORY:
            wrong.append((name, f"{service.grown // MEBI} MiB more", reply.body[:300]))
            service.warm()
    assert wrong == []
    assert service.alive()


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_beyond_the_limit_is_refused_before_it_is_read(service: Measured, path: str) -> None:
    size = (17 if path in LARGE else 10) * MEBI
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as client:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"X-API-Key: {KEY}"]
        lines += [f"{name}: {value}" for name, value in headers(path).items()]
        client.sendall("\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode())
        # Nothing of the body was sent.
        assert client.recv(64).startswith(b"HTTP/1.1 413 ")
    part = b" " * 65536
    parts = iter([part] * (size // len(part) + 1))
    try:
        reply = service.ask("POST", path, parts, headers(path))
    except ConnectionError:
        # It was still sending when the service had long answered and closed.
        assert next(parts, None) is not None
    else:
        assert (reply.status, reply.problem["code"]) == (413, "body-too-large")
    assert service.alive()
    assert service.grown < MEMORY


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_of_another_type_is_refused(
    service: Measured, record: dict[str, Any], path: str
) -> None:
    _, _, shape = next(position for position in PLACES if position[0] == path)
    body = filled(shape(record), b"1001.0")
    bomb = gzip.compress(b" " * (64 * MEBI))
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded",
                 "text/json", "*/*"):  # fmt: skip
        reply = service.ask("POST", path, body, headers(path) | {"Content-Type": kind})
        assert (reply.status, reply.problem["code"]) == (415, "media-type-refused"), kind
    for encoding in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, identity"):
        reply = service.ask("POST", path, bomb, headers(path) | {"Content-Encoding": encoding})
        assert reply.status in (413, 415), encoding
        assert reply.problem["code"] in ("body-too-large", "media-type-refused")
    plain = service.ask("POST", path, body, headers(path) | {"Content-Encoding": "identity"})
    assert plain.status not in (413, 415)
    assert service.grown < MEMORY


def everything(client: socket.socket) -> bytes:
    """What a connection gives until the service closes it."""
    with client, client.makefile("rb") as stream:
        return stream.read()


def test_a_body_that_does_not_arrive_is_a_problem(service: Measured) -> None:
    clients = {}
    for path in ROUTES:
        client = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)
        clients[path] = client
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"X-API-Key: {KEY}", "Content-Length: 100"]
        lines += [f"{name}: {value}" for name, value in headers(path).items()]
        client.sendall("\r\n".join([*lines, "", "{"]).encode())
    answers = {path: everything(client) for path, client in clients.items()}
    for path, answer in answers.items():
        assert answer.startswith(b"HTTP/1.1 408 "), path
        assert b'"body-too-slow"' in answer
    assert service.alive()
