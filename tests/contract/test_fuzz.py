"""Schemathesis for every documented operation, and arbitrary bytes for every body parser.

`make fuzz` runs hundreds of new examples of each; without it a few fixed examples run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.contract.measured import MEMBERS, Measured, measured_service
from tests.e2e.service_process import KEY

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
FEW = 15
# FUZZ_EXAMPLES also makes the examples new in each run.
RUN = settings(
    max_examples=EXAMPLES or FEW,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# Airflow does not run in this test; the document has the response for that.
EXPECTED = {503: b'"airflow-away"'}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, releases_in: Any, fitted: Any
) -> Iterator[Measured]:
    with measured_service(tmp_path_factory.mktemp("fuzz"), releases_in, fitted[0]) as service:
        service.wait_for_database()
        yield service


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["X-API-Key"] = KEY
        yield session


def no_fault(context: CheckContext, response: Response, case: Case) -> None:
    """No response is an internal error or shows internals of the service."""
    if response.status_code >= 500:
        assert EXPECTED.get(response.status_code, b"\0") in response.content
    for inside in (b"Traceback", b'File "', b"/bc_pipeline/", b"site-packages"):
        assert inside not in response.content


def documented_status(context: CheckContext, response: Response, case: Case) -> None:
    """The status is documented, except where the request is not valid HTTP."""
    if b"is not valid HTTP" not in response.content:
        status_code_conformance(context, response, case)


def with_plain_pairs(part: Any) -> Any:
    """The document without 'prefixItems', which Schemathesis does not support."""
    if isinstance(part, dict):
        schema = {name: with_plain_pairs(value) for name, value in part.items()}
        if pair := schema.pop("prefixItems", None):
            schema["items"] = {"anyOf": pair}
        return schema
    return [with_plain_pairs(item) for item in part] if isinstance(part, list) else part


# The snapshot; another test compares it with the published document.
DOCUMENT = json.loads(Path(__file__).with_name("openapi.json").read_text())
documented = schemathesis.openapi.from_dict(with_plain_pairs(DOCUMENT))


@documented.parametrize()
@RUN
def test_operations(case: Case, service: Measured, session: requests.Session) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{service.port}",
        session=session,
        checks=[
            no_fault,
            documented_status,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )
    assert service.alive()


# Arbitrary bytes, and text made of the tokens that the parsers expect.
NEARLY = st.lists(
    st.sampled_from(
        [*'{}[]",:\n\r\t;= ', "1", "0.5", "-", "1e9", "NaN", "null", "true", "\\ud800", "\\u0000",
         '"features"', '"id"', '"inputs"', '"instances"', '"dataframe_split"', '"data"', '"shape"',
         '"columns"', '"prediction_id"', '"diagnosis"', "diagnosis", "mean_radius", "\ufeff",
         "\x00"]
    ),
    max_size=60,
).map(lambda words: "".join(words).encode())  # fmt: skip
READERS = [
    (path, kind)
    for kind in ("application/json", "text/csv", "multipart/form-data; boundary=a")
    for path in (
        "/predict",
        "/v1/predict?explain=false",
        "/v1/explain",
        "/v1/predict/batch",
        "/v1/labelled-data",
        "/v1/outcomes",
        "/v1/retrain",
        "/v2/models/wdbc/infer",
        "/invocations",
    )
]


@given(body=st.one_of(st.binary(max_size=2000), NEARLY, NEARLY.map(lambda b: b"--a\r\n" + b)))
@RUN
@pytest.mark.parametrize(("path", "kind"), READERS)
def test_arbitrary_bytes_get_a_documented_status(
    service: Measured, session: requests.Session, path: str, kind: str, body: bytes
) -> None:
    answer = session.post(
        f"http://127.0.0.1:{service.port}{path}",
        data=body,
        headers={"Content-Type": kind, "Idempotency-Key": "one"},
    )
    assert answer.status_code in {200, 201, 400, 404, 409, 413, 415, 422, 503}
    if answer.status_code == 503:
        assert answer.json()["code"] == "airflow-away"
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        error = answer.json()
        assert set(error) >= MEMBERS
        assert error["status"] == answer.status_code
