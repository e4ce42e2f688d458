"""What clients of ``POST /predict`` rely on: keys and types of the answer, status of each fault.

The real service is asked over a socket, so that what the server itself does counts too.
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

import pytest

KEY = "key-of-the-contract-tests"
JSON = {"Content-Type": "application/json", "X-API-Key": KEY}


@pytest.fixture(scope="module")
def port(
    tmp_path_factory: pytest.TempPathFactory, releases_in: Callable[[Path], Any], fitted: Any
) -> Iterator[int]:
    """Port of a service with one model."""
    home = tmp_path_factory.mktemp("contract")
    releases = releases_in(home)
    releases.settings.api_key.write_text(KEY)
    command = [sys.executable, "-m", "bc_pipeline.serving", "--port", "0", "--until-eof"]
    command += ["--folder", str(releases.challenger("v1", fitted[0]))]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"BC_HOME": str(home)},
        )
    with process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
        process.terminate()


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
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
        "prediction": int,
        "label": str,
        "probability": float,
        "probabilities": dict,
        "threshold": float,
        "model_version": str,
    }
    assert list(content["probabilities"]) == ["malignant", "benign"]
    assert (content["prediction"], content["label"]) == (0, "malignant")
    _, _, body = ask(port, "POST", "/predict", json.dumps(record | {"id": "a"}), JSON)
    assert json.loads(body) == content | {"id": "a"}


def test_the_openapi_document_declares_these_keys(port: int, record: dict[str, float]) -> None:
    _, _, body = ask(port, "GET", "/openapi.json")
    document = json.loads(body)
    declared = document["components"]["schemas"]["Answer"]
    _, _, body = ask(port, "POST", "/predict", json.dumps(record), JSON)
    assert set(declared["required"]) == set(json.loads(body))
    assert set(declared["properties"]) == {*declared["required"], "id"}
    responses = document["paths"]["/predict"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "413", "415", "422", "500", "503"}


def replaced(record: dict[str, float], text: str) -> str:
    """The record with another text in place of one number."""
    return json.dumps(record | {"mean_area": 1234567}).replace("1234567", text)


SECRET = "73519.625"
# Name, body as a function of a good record, status, code.
BAD_BODIES: list[tuple[str, Callable[[dict[str, float]], Any], int, str]] = [
    ("empty", lambda r: b"", 400, "body-unreadable"),
    ("not JSON", lambda r: b"{'mean_area': " + SECRET.encode(), 400, "body-unreadable"),
    ("not UTF-8", lambda r: b'{"id": "\xff' + SECRET.encode(), 400, "body-unreadable"),
    ("UTF-16", lambda r: json.dumps(r).encode("utf-16"), 400, "body-unreadable"),
    ("deep nesting", lambda r: b"[" * 900_000, 400, "body-unreadable"),
    ("deep object", lambda r: b'{"features":' * 80_000, 400, "body-unreadable"),
    ("two documents", lambda r: json.dumps(r) * 2, 400, "body-unreadable"),
    ("a list", lambda r: f"[{SECRET}]", 422, "schema-mismatch"),
    ("null", lambda r: "null", 422, "schema-mismatch"),
    ("a missing feature", lambda r: json.dumps({"mean_area": 3}), 422, "schema-mismatch"),
    ("an unknown name", lambda r: json.dumps(r | {"aera": 5}), 422, "schema-mismatch"),
    ("a name twice", lambda r: json.dumps(r)[:-1] + ',"mean_area":7}', 422, "schema-mismatch"),
    ("two names", lambda r: json.dumps(r | {"area_mean": 7}), 422, "schema-mismatch"),
    ("NaN", lambda r: replaced(r, "NaN"), 422, "schema-mismatch"),
    ("Infinity", lambda r: replaced(r, "-Infinity"), 422, "schema-mismatch"),
    ("1e400", lambda r: replaced(r, "1e400"), 422, "schema-mismatch"),
    ("a huge integer", lambda r: replaced(r, "7" * 10_000), 422, "schema-mismatch"),
    ("a number as text", lambda r: replaced(r, f'"{SECRET}"'), 422, "schema-mismatch"),
    ("true", lambda r: replaced(r, "true"), 422, "schema-mismatch"),
    ("null inside", lambda r: replaced(r, "null"), 422, "schema-mismatch"),
    ("a nested value", lambda r: replaced(r, f"[{SECRET}]"), 422, "schema-mismatch"),
    ("out of range", lambda r: replaced(r, SECRET), 422, "schema-mismatch"),
    ("a broken rule", lambda r: json.dumps(r | {"mean_radius": 50}), 422, "schema-mismatch"),
    ("a lone surrogate", lambda r: replaced(r, '"\\ud800"'), 422, "schema-mismatch"),
    ("a surrogate name", lambda r: '{"\\udfff": 1}', 422, "schema-mismatch"),
    ("a surrogate id", lambda r: '{"id": "\\ud800"}', 422, "schema-mismatch"),
    ("29 numbers", lambda r: json.dumps({"features": [1] * 29}), 422, "schema-mismatch"),
    ("a million bytes of names", lambda r: "{" + '"a":1,' * 170_000 + '"b":1}', 422,
     "schema-mismatch"),
    ("over 1 MiB", lambda r: b" " * (1024 * 1024 + 1), 413, "body-too-large"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [pytest.param(*rest, id=name) for name, *rest in BAD_BODIES],
)
def test_a_bad_body_is_a_problem_that_repeats_no_value(
    port: int,
    record: dict[str, float],
    body: Callable[[dict[str, float]], Any],
    status: int,
    code: str,
) -> None:
    answered, headers, content = ask(port, "POST", "/predict", body(record), JSON)
    problem = json.loads(content)
    assert (answered, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert SECRET.encode() not in content
    assert b"73519" not in content
    if code == "schema-mismatch":
        assert problem["defects"]
        assert all(set(defect) == {"feature", "reason"} for defect in problem["defects"])


def test_a_large_body_without_a_length_is_refused(port: int) -> None:
    status, _, content = ask(port, "POST", "/predict", iter([b" " * 65536] * 40), JSON)
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
def test_other_faults_are_problems_too(
    port: int, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body = "{}" if method == "POST" else None
    answered, given, content = ask(port, method, path, body, headers)
    assert (answered, json.loads(content)["status"]) == (status, status)
    assert given["content-type"] == "application/problem+json"


def test_one_connection_survives_every_fault(port: int, record: dict[str, float]) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for _, body, status, _ in BAD_BODIES:
            connection.request("POST", "/predict", body(record), JSON)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.request("POST", "/predict", json.dumps(record), JSON)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
