"""Scripts of an allowed origin may read every answer, refusals and failures included."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import create_key
from bc_pipeline.errors import RecordsAway
from bc_pipeline.serving.app import create_app
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, Service

ORIGIN = "https://app.example"
GOOD = {"Content-Type": "application/json", "X-API-Key": KEY}
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-api-key",
}
READABLE = {"X-Request-Id", "Retry-After", "X-Model-Version", "X-Manifest-Sha256", "Location"}
# Path, status of a POST with these headers and this body.
REFUSALS: dict[str, tuple[str, dict[str, str], bytes, int]] = {
    "malformed": ("/predict", GOOD, b"{", 400),
    "no key": ("/predict", GOOD | {"X-API-Key": ""}, b"{}", 401),
    "nothing there": ("/nothing", GOOD, b"{}", 404),
    "another method": ("/livez", GOOD, b"{}", 405),
    "too large": ("/predict", GOOD | {"Content-Length": str(2**40)}, b"{}", 413),
    "another type": ("/predict", GOOD | {"Content-Type": "text/html"}, b"{}", 415),
    "invalid": ("/predict", GOOD, b"{}", 422),
    "invalid batch": ("/v1/predict/batch", GOOD, b"{}", 422),
    "invalid table": ("/invocations", GOOD, b"{}", 400),
    "invalid tensor": ("/v2/models/wdbc/infer", GOOD, b"{}", 422),
    "other model": ("/v2/models/other/infer", GOOD, b"{}", 404),
}


def post(service: Service, path: str, headers: dict[str, str], body: bytes) -> Any:
    return service.request("POST", path, headers=headers | {"Origin": ORIGIN}, content=body)


def assert_readable(response: Any) -> None:
    assert response.headers.get_list("access-control-allow-origin") == [ORIGIN]
    exposed = response.headers["access-control-expose-headers"]
    assert {name.strip() for name in exposed.split(",")} >= READABLE
    assert "Origin" in response.headers["vary"]


@pytest.fixture
def shared(service: Service, start: Callable[..., Service]) -> Service:
    return start(cors_origins=(ORIGIN,))


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_readable(shared: Service, case: str) -> None:
    path, headers, body, status = REFUSALS[case]
    response = post(shared, path, headers, body)
    assert response.status_code == status
    assert_readable(response)


def test_an_answer_is_readable_and_not_of_the_fast_path(shared: Service, reference: Any) -> None:
    record = {"features": reference[0][0].tolist()}
    assert_readable(shared.predict(record, headers={"Origin": ORIGIN}))
    assert shared.served.fast_answers == 0
    plain = shared.predict(record)
    assert shared.served.fast_answers == 1
    assert plain.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in plain.headers


def test_a_missing_scope_and_a_limit_are_readable(
    settings: Settings, service: Service, start: Callable[..., Service]
) -> None:
    raw, _ = create_key(settings.service_keys, "reader", ["read"])
    shared = start(cors_origins=(ORIGIN,), rate_limit_key="1/hour")
    refused = post(shared, "/predict", GOOD | {"X-API-Key": raw}, b"{}")
    assert refused.status_code == 403
    assert_readable(refused)
    answers = [post(shared, "/predict", GOOD, b"{}") for _ in range(2)]
    assert answers[1].status_code == 429
    assert_readable(answers[1])


def test_a_refused_address_is_readable(start: Callable[..., Service]) -> None:
    closed = start(cors_origins=(ORIGIN,), allowed_addresses=("10.0.0.0/8",))
    refused = post(closed, "/predict", GOOD, b"{}")
    assert refused.status_code == 403
    assert_readable(refused)
    assert closed.request("OPTIONS", "/predict", headers=PREFLIGHT).status_code == 403


@pytest.mark.parametrize(
    ("error", "status"), [(RecordsAway("No room."), 503), (ValueError("unexpected"), 500)]
)
def test_a_failure_is_readable(
    shared: Service,
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shared.app.state.services.spool, "append", fail)
    failed = shared.predict({"features": reference[0][0].tolist()}, headers={"Origin": ORIGIN})
    assert failed.status_code == status
    assert_readable(failed)


@pytest.mark.parametrize(
    "path", ["/predict", "/v1/predict/batch", "/invocations", "/v1/model", "/nothing"]
)
def test_a_preflight_needs_no_credentials(shared: Service, path: str) -> None:
    response = shared.request("OPTIONS", path, headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers.get_list("access-control-allow-origin") == [ORIGIN]
    allowed = response.headers["access-control-allow-headers"].lower()
    assert "x-api-key" in allowed
    assert "authorization" in allowed
    assert "POST" in response.headers["access-control-allow-methods"]


def test_a_preflight_passes_where_others_at_the_address_failed(
    service: Service, start: Callable[..., Service]
) -> None:
    shared = start(cors_origins=(ORIGIN,), rate_limit_failures="2/hour")
    for _ in range(4):
        shared.get("/nothing")
    limited = shared.get("/nothing")
    assert limited.status_code == 429
    assert shared.request("OPTIONS", "/predict", headers=PREFLIGHT).status_code == 200


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"Origin": "https://evil.example"}, "origin"),
        ({"Access-Control-Request-Method": "DELETE"}, "method"),
        ({"Access-Control-Request-Headers": "x-other"}, "headers"),
    ],
)
def test_a_preflight_of_what_is_not_allowed_is_refused(
    shared: Service, changes: dict[str, str], part: str
) -> None:
    response = shared.request("OPTIONS", "/predict", headers=PREFLIGHT | changes)
    assert (response.status_code, response.json()["code"]) == (400, "header-refused")
    assert part in response.json()["detail"]
    allowed = response.headers.get("access-control-allow-origin")
    assert allowed == (None if "Origin" in changes else ORIGIN)


def test_other_origins_read_nothing(shared: Service) -> None:
    headers = GOOD | {"Origin": "https://evil.example"}
    response = shared.request("POST", "/predict", headers=headers, content=b"{}")
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin"


def test_every_origin_may_read_where_all_are_allowed(
    service: Service, start: Callable[..., Service]
) -> None:
    shared = start(cors_origins=("*",))
    response = post(shared, "/predict", GOOD | {"X-API-Key": ""}, b"{}")
    assert response.status_code == 401
    assert response.headers.get_list("access-control-allow-origin") == ["*"]


def test_what_the_http_protocol_refuses_is_readable(settings: Settings, api_key: str) -> None:
    shared = create_app(settings.model_copy(update={"cors_origins": (ORIGIN,)}))
    for status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE):
        request = [(b"origin", ORIGIN.encode())]
        headers, _ = shared.protocol_error(status, "It cannot be read.", request)
        assert (b"access-control-allow-origin", ORIGIN.encode()) in headers
        headers, _ = shared.protocol_error(status, "It cannot be read.", [])
        assert b"access-control-allow-origin" not in dict(headers)
    shared.state.services.spool.close()
