"""What clients of the Open Inference Protocol rely on, and what they may not do.

Triton's own client drives a real service. The hostile bodies hold for MLflow's protocol too:
each is answered with a problem, soon, without any of its values, in bounded memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bc_pipeline.auth.api_keys import import_key
from tests.cpu_time import within_loops
from tests.server_process import server_process
from tests.waiting import PATIENCE

KEY = "key-of-the-contract-tests-of-tensors"
# CPU time, in loops of `tests.cpu_time`.
LOOPS = 40
MORE_MEMORY = 100 * 1024 * 1024
# Features of no patient: what an answer must never repeat.
CANARY = "8675.30925"
INFER = "/v2/models/wdbc/infer"
SMALL = 200_000
SIZE = 16 * 1024 * 1024 - 1000


class Service:
    """A service in a process of its own, with a model."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def post(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", path, body, {"X-API-Key": KEY} | headers)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return response.status, named, response.read()
        finally:
            connection.close()

    @property
    def _processes(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    @property
    def seconds(self) -> float:
        """CPU time of all its processes."""
        spent = [one.cpu_times() for one in self._processes]
        return sum(one.user + one.system for one in spent)

    @property
    def memory(self) -> int:
        """Resident memory of the largest of its processes, in bytes."""
        return max(one.memory_info().rss for one in self._processes)

    @property
    def peak(self) -> int:
        """The most that `memory` has been since `forget_peak`."""
        return max(_peak(one.pid) for one in self._processes)

    def forget_peak(self) -> None:
        for one in self._processes:
            Path(f"/proc/{one.pid}/clear_refs").write_text("5")


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, releases_in: Callable[[Path], Any], fitted: Any
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("tensors")
    releases = releases_in(home)
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    import_key(releases.settings.service_keys, "tests", ["predict", "read"], KEY)
    environment = {name: value for name, value in os.environ.items() if name[:3] != "BC_"}
    environment |= {"BC_HOME": str(home), "BC_WORKERS": "1"}
    with server_process(home / "log", environment=environment) as (process, port):
        yield Service(process, port)


@pytest.fixture(scope="module")
def session(
    service: Service, reference: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What Triton's client got."""
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, reference[0])
    program = Path(__file__).with_name("triton_session.py")
    done = subprocess.run(
        [sys.executable, program, f"127.0.0.1:{service.port}", KEY, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_tritons_client_finds_the_model(session: dict[str, Any]) -> None:
    assert [session[name] for name in ("live", "ready", "model_ready", "version_ready")] == [
        True
    ] * 4
    assert (session["other_ready"], session["old_ready"]) == (False, False)
    assert session["server"]["extensions"] == ["binary_tensor_data"]
    assert session["model"]["versions"] == ["v1"]
    assert session["model"]["inputs"] == [
        {"name": "features", "datatype": "FP64", "shape": [-1, 30]}
    ]


def test_tritons_client_gets_the_probabilities_of_scikit_learn(
    session: dict[str, Any], reference: Any, fitted: Any, wdbc: Any
) -> None:
    expected = fitted[0].probability
    called = (expected > 0.4).tolist()
    for way in ("binary", "plain", "later"):
        found = session[way]
        assert np.abs(np.array(found["probability"]) - expected).max() <= 1e-12
        assert found["label"] == [wdbc.labels.name(one) for one in called]
        assert found["prediction"] == [wdbc.labels.code(one) for one in called]
        assert len(set(found["prediction_id"])) == len(expected)
    single = reference[0].astype(np.float32).astype(np.float64)
    rounded = fitted[0].estimator.predict_proba(single)[:, 1]
    assert np.abs(np.array(session["mixed"]["probability"]) - rounded).max() <= 1e-12
    assert session["id"] == "r-1"


def test_tritons_client_reads_the_problems(session: dict[str, Any]) -> None:
    assert session["no_key"][0] == "401"
    assert session["old"][0] == "404"
    assert "v1" in session["old"][1]
    status, message = session["wrong"]
    assert status == "422"
    assert "mean_radius in row 2 is outside the physical range" in message
    assert session["compressed"][0] == "415"


def infer(**changes: Any) -> bytes:
    """A request of one row, with changes to its tensor; None leaves a member out."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 30], "data": [1.0] * 30}
    made = {name: value for name, value in (tensor | changes).items() if value is not ...}
    return json.dumps({"inputs": [made]}).encode()


def binary(size: Any, blob: bytes, **changes: Any) -> tuple[bytes, dict[str, str]]:
    text = infer(data=..., parameters={"binary_data_size": size}, **changes)
    return text + blob, {"Inference-Header-Content-Length": str(len(text))}


def lengths(length: str, body: bytes = infer()) -> tuple[bytes, dict[str, str]]:
    return body, {"Inference-Header-Content-Length": length}


def filled(start: str, part: str, end: str) -> bytes:
    """A body of nearly the largest size that is read."""
    count = (SIZE - len(start) - len(end)) // len(part.encode())
    return (start + part * count + end).encode()


def data(text: str) -> bytes:
    start = '{"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 30], "data": '
    return f"{start}{text}}}]}}".encode()


def doubled(member: str) -> bytes:
    return infer().replace(b'{"name"', f'{{"{member}": 1, "name"'.encode())


def names_of(count: int) -> str:
    return ", ".join(f'"n{at}": 1' for at in range(count))


TENSORS: dict[str, bytes | tuple[bytes, dict[str, str]]] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"5",
    "no inputs": b"{}",
    "inputs null": b'{"inputs": null}',
    "inputs empty": b'{"inputs": []}',
    "inputs an object": b'{"inputs": {}}',
    "inputs twice": b'{"inputs": [], "inputs": []}',
    "two tensors": json.dumps({"inputs": [json.loads(infer())["inputs"][0]] * 2}).encode(),
    "no tensor": b'{"inputs": [5]}',
    "another name": infer(name="x"),
    "name a list": infer(name=["features"]),
    "name twice": doubled("name"),
    "shape twice": doubled("shape"),
    "data twice": doubled("data"),
    "datatype INT64": infer(datatype="INT64"),
    "datatype BYTES": infer(datatype="BYTES", data=[CANARY] * 30),
    "datatype a list": infer(datatype=[]),
    "no datatype": infer(datatype=...),
    "no shape": infer(shape=...),
    "shape of one dimension": infer(shape=[30]),
    "shape of three dimensions": infer(shape=[1, 1, 30]),
    "shape negative": infer(shape=[-1, 30]),
    "shape negative twice": infer(shape=[-1, -30]),
    "shape of no rows": infer(shape=[0, 30], data=[]),
    "shape broken": infer(shape=[1.5, 30]),
    "shape of text": infer(shape=["1", "30"]),
    "shape of booleans": infer(shape=[True, 30]),
    "shape NaN": infer(shape=[float("nan"), 30]),
    "shape infinite": infer(shape=[float("inf"), 30]),
    "shape overflows": infer(shape=[2**62, 30]),
    "shape overflows to one": infer(shape=[2**64 + 1, 30]),
    "shape of huge digits": infer(shape=[int("9" * 4000), 30]),
    "shape of too many rows": infer(shape=[10_001, 30]),
    "shape of other columns": infer(shape=[1, 31]),
    "no data": infer(data=...),
    "data null": infer(data=None),
    "data an object": infer(data={}),
    "data text": infer(data=CANARY),
    "data too short": infer(data=[1.0] * 29),
    "data too long": infer(data=[1.0] * 31),
    "data of text": infer(data=[CANARY] * 30),
    "data of booleans": infer(data=[True] * 30),
    "data of nulls": infer(data=[None] * 30),
    "data of lists": infer(data=[[1.0]] * 30),
    "data of NaN": infer(data=[float("nan")] * 30),
    "data of infinity": infer(data=[float("inf")] * 30),
    "data 1e400": data("[" + ", ".join(["1e400"] * 30) + "]"),
    "data of 5000 digits": data("[" + ", ".join(["8" * 5000] * 30) + "]"),
    "data denormal": infer(data=[5e-324] * 30),
    "data beyond FP32": infer(datatype="FP32", data=[1e300] * 30),
    "data out of range": infer(data=[8675.30925e9] * 30),
    "data nested deeply": data("[" * 100_000),
    "data nested unevenly": infer(shape=[2, 30], data=[[1.0] * 30, [1.0] * 29]),
    "data half nested": infer(shape=[2, 30], data=[[1.0] * 30, 1.0]),
    "a lone surrogate": infer(name="\ud800"),
    "not UTF-8": b'{"inputs": "\xff"}',
    "id a number": b'{"id": 8675.30925, "inputs": []}',
    "id long": json.dumps({"id": CANARY * 20, "inputs": []}).encode(),
    "id unprintable": json.dumps({"id": CANARY + "\x00", "inputs": []}).encode(),
    "parameters a list": b'{"inputs": [], "parameters": []}',
    "parameters twice": b'{"parameters": {}, "parameters": {}, "inputs": []}',
    "binary output text": b'{"parameters": {"binary_data_output": "8675.30925"}}',
    "outputs an object": b'{"outputs": {}}',
    "outputs unknown": b'{"outputs": [{"name": "8675.30925"}]}',
    "outputs twice": b'{"outputs": [{"name": "label"}, {"name": "label"}]}',
    "outputs of text": b'{"outputs": ["label"]}',
    "outputs many": json.dumps({"outputs": [{"name": "label"}] * 1000}).encode(),
    "binary without its length": infer(data=..., parameters={"binary_data_size": 240}),
    "binary beyond the body": binary(240, b""),
    "binary too short": binary(240, bytes(239)),
    "binary too long": binary(240, bytes(241)),
    "binary size small": binary(8, bytes(8)),
    "binary size negative": binary(-240, bytes(240)),
    "binary size huge": binary(2**70, bytes(240)),
    "binary size text": binary("240", bytes(240)),
    "binary size null": binary(None, bytes(240)),
    "binary size a fraction": binary(240.5, bytes(240)),
    "binary of NaN": binary(240, np.full(30, np.nan).tobytes()),
    "binary of infinity": binary(240, np.full(30, np.inf).tobytes()),
    "binary of noise": binary(240, b"\xff\x7f" * 120),
    "binary FP32 of NaN": binary(120, np.full(30, np.nan, "<f4").tobytes(), datatype="FP32"),
    "binary and data": lengths(
        str(len(infer(parameters={"binary_data_size": 240}))),
        infer(parameters={"binary_data_size": 240}) + bytes(240),
    ),
    "binary shared memory": infer(data=..., parameters={"shared_memory_region": CANARY}),
    "bytes of no tensor": lengths(str(len(infer())), infer() + bytes(240)),
    "length 0": lengths("0"),
    "length negative": lengths("-1"),
    "length a word": lengths("x"),
    "length a fraction": lengths("1.5"),
    "length beyond the body": lengths("9" * 6),
    "length of 5000 digits": lengths("9" * 5000),
    "length within the JSON": lengths("10"),
    "large: numbers": filled('{"inputs": [', "1,", "1]}"),
    "large: objects": filled('{"inputs": [', '{"a":1},', "{}]}"),
    "large: text": filled('{"inputs": "', CANARY, '"}'),
    "large: wide text": filled('{"inputs": "', "\U0001f600", '"}'),
    "large: digits": filled('{"inputs": [{"shape": [', "9", "]}]}"),
    "large: brackets": filled("", "[", ""),
    "large: names": f'{{"inputs": [{{{names_of(340_000)}}}]}}'.encode(),
    "large: objects that are parsed": ('{"inputs": [' + '{"a":1},' * 340_000 + "{}]}").encode(),
    "large: binary": binary(SIZE - 1000, bytes(SIZE - 1000)),
}


def table(form: str, text: str) -> bytes:
    return f'{{"{form}": {text}}}'.encode()


def each_form(text: str) -> dict[str, bytes]:
    forms = ("dataframe_split", "dataframe_records", "inputs", "instances")
    # The large ones take time: those forms that do most with them.
    return {form: table(form, text) for form in (forms if len(text) < SMALL else forms[1:3])}


TABLES: dict[str, bytes] = {
    f"{form}: {kind}": body
    for kind, text in {
        "null": "null",
        "a number": "8675.30925",
        "text": f'"{CANARY}"',
        "an empty list": "[]",
        "an empty object": "{}",
        "a list of nulls": "[null]",
        "a list of empty lists": "[[]]",
        "a list of empty objects": "[{}]",
        "mixed rows": "[[8675.30925], {}]",
        "text in columns": f'{{"mean_radius": ["{CANARY}"]}}',
        "nested": "[" * 100_000,
        "numbers": "[" + "1," * 340_000 + "1]",
        "objects": "[" + "{}," * 340_000 + "{}]",
        "different names": "[" + ", ".join(f'{{"n{at}": 1}}' for at in range(10_000)) + "]",
        "rows of many names": "[" + ", ".join(f"{{{names_of(900)}}}" for _ in range(380)) + "]",
        "one of many names": f"{{{names_of(340_000)}}}",
    }.items()
    for form, body in each_form(text).items()
} | {
    "split: columns an object": table("dataframe_split", '{"columns": {}, "data": [[1]]}'),
    "split: columns of numbers": table("dataframe_split", '{"columns": [1], "data": [[1]]}'),
    "split: columns twice": table(
        "dataframe_split", '{"columns": [], "columns": [], "data": [[]]}'
    ),
    "split: index too short": table("dataframe_split", '{"index": [], "data": [[1]]}'),
    "split: another member": table("dataframe_split", '{"data": [[1]], "8675.30925": 1}'),
    "split: many columns": table(
        "dataframe_split", json.dumps({"columns": ["x"] * 200_000, "data": [[1] * 200_000]})
    ),
    "names that nearly fit": table(
        "inputs", json.dumps({f"mean_radius{at}": [1] for at in range(900)})
    ),
    "distinct names": table(
        "inputs",
        json.dumps([{f"{row}_{at}" + "x" * 20: 1 for at in range(40)} for row in range(8_500)]),
    ),
    "wide text": filled('{"inputs": "', "\U0001f600", '"}'),
}

CSV: dict[str, bytes] = {
    "200k columns": b"x," * 200_000 + b"\n",
    "commas": b"," * SIZE,
    "lines": b"\n" * SIZE,
    "carriage returns": b"\r" * SIZE,
    "one line": b"x" * SIZE,
    "an unclosed quote": b'"' + b"x\n" * 20_000,
    "quotes": b'"' * SIZE,
    "no UTF-8": b"mean_radius\n\xff\n",
    "zip": b"PK\x03\x04" + bytes(1000),
    "zeros": bytes(100_000),
    "UTF-16": "mean_radius\n1\n".encode("utf-16"),
    "wide text": "\U0001f600".encode() * (SIZE // 4),
    "one column": b"mean_radius\n" + b"8675.30925\n" * 9_000,
}

ATTACKS: list[Any] = [
    pytest.param(INFER, *(given if isinstance(given, tuple) else (given, {})), id=f"infer: {name}")
    for name, given in TENSORS.items()
]
ATTACKS += [
    pytest.param("/invocations", body, {"Content-Type": kind}, id=f"{kind}: {name}")
    for kind, bodies in (("application/json", TABLES), ("text/csv", CSV))
    for name, body in bodies.items()
]


@pytest.mark.parametrize(("path", "body", "headers"), ATTACKS)
def test_hostile_bodies(service: Service, path: str, body: bytes, headers: dict[str, str]) -> None:
    service.forget_peak()
    memory, seconds = service.memory, service.seconds
    status, named, text = service.post(path, body, headers)
    assert 400 <= status < 500, text
    assert named["content-type"] == "application/problem+json"
    problem = json.loads(text)
    assert problem["status"] == status
    assert ("error" in problem) == (path == INFER)
    for spelling in (CANARY, "8675309", "8.675"):
        assert spelling.encode() not in text
    assert len(text) < 64 * 1024
    assert within_loops(service.seconds - seconds, LOOPS)
    assert service.peak - memory <= MORE_MEMORY


def test_too_large_bodies_are_refused_before_they_are_sent(service: Service) -> None:
    for path in (INFER, "/invocations"):
        connection = HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
        connection.putrequest("POST", path)
        for name, value in (
            ("X-API-Key", KEY),
            ("Content-Type", "application/json"),
            ("Content-Length", str(17 * 1024 * 1024)),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as response:
            assert response.status == 413
        connection.close()


def test_memory_returns_after_large_bodies(service: Service) -> None:
    """What many of them take does not add up."""
    largest = [
        param.values
        for param in ATTACKS
        if isinstance(param.values[1], bytes) and len(param.values[1]) > 10 * 1024 * 1024
    ]
    assert len(largest) > 8
    levels = []
    for _ in range(2):
        for path, body, headers in largest:
            service.post(path, body, headers)
        levels.append(service.memory)
    assert levels[-1] - levels[0] <= MORE_MEMORY / 4
