"""What clients of ``POST /predict`` rely on: keys and types of the answer, status of each fault.

The real service is asked over a socket, so that what the server itself does counts too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import import_key
from tests.contract.hostile_json import BODIES, DIGITS, VALUES
from tests.server_process import server_process
from tests.waiting import PATIENCE

KEY = "key-of-the-contract-tests"
JSON = {"Content-Type": "application/json", "X-API-Key": KEY}


@pytest.fixture(scope="module")
def port(
    tmp_path_factory: pytest.TempPathFactory, releases_in: Callable[[Path], Any], fitted: Any
) -> Iterator[int]:
    """Port of a service with one model."""
    home = tmp_path_factory.mktemp("contract")
    releases = releases_in(home)
    import_key(releases.settings.service_keys, "tests", ["admin"], KEY)
    folder = str(releases.challenger("v1", fitted[0]))
    environment = os.environ | {"BC_HOME": str(home)}
    with server_process(home / "log", "--folder", folder, environment=environment) as (_, port):
        yield port


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def record(reference: Any, wdbc: Any) -> dict[str, float]:
    return dict(zip(wdbc.schema.names, reference[0][0].tolist(), strict=True))


def test_the_answer_has_these_keys_and_types(port: int, record: dict[str, float]) -> None:
    status, headers, body = ask(port, "POST", "/predict", json.dumps(record), JSON)
    content = json.loads(body)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert {key: type(value) for key, value in content.items()} == {
        "prediction_id": str,
        "prediction": int,
        "label": str,
        "probability": float,
        "probabilities": dict,
        "threshold": float,
        "model_version": str,
        "manifest_sha256": str,
        "warnings": list,
    }
    assert list(content["probabilities"]) == ["malignant", "benign"]
    assert (content["prediction"], content["label"]) == (0, "malignant")
    _, _, body = ask(port, "POST", "/predict", json.dumps(record | {"id": "a"}), JSON)
    again = json.loads(body)
    assert again == content | {"id": "a", "prediction_id": again["prediction_id"]}


def test_the_openapi_document_declares_these_keys(port: int, record: dict[str, float]) -> None:
    _, _, body = ask(port, "GET", "/openapi.json")
    document = json.loads(body)
    declared = document["components"]["schemas"]["Prediction"]
    _, _, body = ask(port, "POST", "/predict", json.dumps(record), JSON)
    assert set(declared["required"]) == set(json.loads(body))
    assert set(declared["properties"]) == {*declared["required"], "id", "explanation"}
    responses = document["paths"]["/v1/predict"]["post"]["responses"]
    assert set(responses) == {
        *("200", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503")
    }


def replaced(record: dict[str, float], value: bytes) -> bytes:
    """The record with another text in place of one number."""
    return json.dumps(record | {"mean_area": 1234567}).encode().replace(b"1234567", value)


UNREADABLE, MISMATCH = (400, "body-unreadable"), (422, "schema-mismatch")
# Bodies, and values in a record, of the corpus that are refused as what they are.
BAD_BODIES = {
    **dict.fromkeys(
        ["empty", "not JSON", "not UTF-8", "UTF-16", "two documents", "deep lists", "deep objects"],
        UNREADABLE,
    ),
    **dict.fromkeys(
        ["list", "null", "empty object", "unknown name", "surrogate name", "surrogate id",
         "one name again and again", "a name twice"],
        MISMATCH,
    ),
}  # fmt: skip
BAD_VALUES = [
    "NaN", "minus Infinity", "1e400", "5,000 digits", "number as text", "true", "null", "list",
    "object", "out of range", "denormal", "lone surrogate",
]  # fmt: skip
# Name, body as a function of a good record, status, code.
CASES: list[tuple[str, Callable[[dict[str, float]], bytes], int, str]] = [
    *[(name, lambda r, n=name: BODIES[n], *expected) for name, expected in BAD_BODIES.items()],
    *[(name, lambda r, n=name: replaced(r, VALUES[n]), *MISMATCH) for name in BAD_VALUES],
    ("two names", lambda r: json.dumps(r | {"area_mean": 7}).encode(), *MISMATCH),
    ("a broken rule", lambda r: json.dumps(r | {"mean_radius": 50}).encode(), *MISMATCH),
    ("29 numbers", lambda r: json.dumps({"features": [1] * 29}).encode(), *MISMATCH),
    ("over 1 MiB", lambda r: b" " * (1024 * 1024 + 1), 413, "body-too-large"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [pytest.param(*rest, id=name) for name, *rest in CASES],
)
def test_the_problem_of_a_bad_body_repeats_no_value(
    port: int,
    record: dict[str, float],
    body: Callable[[dict[str, float]], bytes],
    status: int,
    code: str,
) -> None:
    answered, headers, content = ask(port, "POST", "/predict", body(record), JSON)
    problem = json.loads(content)
    assert (answered, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert DIGITS not in content
    if code == "schema-mismatch":
        assert problem["defects"]
        assert all(set(defect) == {"feature", "reason"} for defect in problem["defects"])


def test_a_large_body_without_a_length_is_refused(port: int) -> None:
    # Little above the limit: a client that sends much more may find its connection closed.
    status, _, content = ask(port, "POST", "/predict", iter([b" " * 65536] * 18), JSON)
    assert (status, json.loads(content)["code"]) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/predict", {"Content-Type": "application/json"}, 401),
        ("POST", "/predict", {**JSON, "X-API-Key": "wrong"}, 401),
        ("POST", "/predict", {"X-API-Key": KEY, "Content-Type": "text/csv"}, 415),
        ("POST", "/predict", {"X-API-Key": KEY}, 415),
        ("GET", "/predict", JSON, 405),
        ("POST", "/health", JSON, 405),
        ("GET", "/v1/none", {}, 404),
    ],
)
def test_other_errors_are_problems_too(
    port: int, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body = "{}" if method == "POST" else None
    answered, given, content = ask(port, method, path, body, headers)
    assert (answered, json.loads(content)["status"]) == (status, status)
    assert given["content-type"] == "application/problem+json"


def test_one_connection_survives_every_error(port: int, record: dict[str, float]) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        for _, body, status, _ in CASES:
            if status == 413:
                # The server does not wait for bytes after it.
                continue
            connection.request("POST", "/predict", body(record), JSON)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.request("POST", "/predict", json.dumps(record), JSON)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
