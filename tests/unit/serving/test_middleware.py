"""The outermost layer of the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import create_key
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY

GOOD = {"Content-Type": "application/json", "X-API-Key": KEY}


def test_an_address_outside_the_allow_list_is_refused_everywhere(
    service: Any, start: Callable[..., Any]
) -> None:
    closed = start(allowed_addresses=("10.0.0.0/8",))
    for path in ("/livez", "/nothing", "/predict"):
        answer = closed.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "address-refused")


def test_an_address_with_too_many_failures_is_limited_before_any_work(
    start: Callable[..., Any],
) -> None:
    service = start(rate_limit_failures="3/hour")
    statuses = [service.get("/nothing").status_code for _ in range(5)]
    assert statuses == [404, 404, 404, 429, 429]
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "wrong-key-wrong-key"}):
        for path in ("/predict", "/v1/model", "/openapi.json", "/nothing"):
            limited = service.request("POST", path, headers=headers)
            assert (limited.status_code, limited.json()["code"]) == (429, "rate-limited")
            assert int(limited.headers["retry-after"]) > 0
    assert service.request("POST", "/livez").status_code == 429


def test_failures_of_others_at_an_address_do_not_lock_out_valid_keys(
    service: Any, start: Callable[..., Any], settings: Settings, reference: Any
) -> None:
    raw, _ = create_key(settings.service_keys, "reader", ["read"])
    shared = start(rate_limit_failures="3/hour")
    for _ in range(5):
        shared.request("GET", "/v1/model", headers={"X-API-Key": "wrong-key-wrong-key"})
    assert shared.predict({"features": reference[0][0].tolist()}).status_code == 200
    assert shared.request("GET", "/v1/model", headers={"X-API-Key": raw}).status_code == 200
    refused = shared.request("POST", "/predict", headers={"X-API-Key": raw})
    assert refused.json()["code"] == "scope-missing"


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/health",
        "/ping",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/wdbc/ready",
    ],
)
def test_probes_are_answered_despite_failures_from_the_same_address(
    service: Any, start: Callable[..., Any], path: str
) -> None:
    shared = start(rate_limit_failures="3/hour")
    assert [shared.get("/nothing").status_code for _ in range(4)][-1] == 429
    for method in ("GET", "HEAD"):
        assert shared.request(method, path).status_code == 200


def test_requests_of_a_key_are_limited(
    service: Any, start: Callable[..., Any], reference: Any
) -> None:
    few = start(rate_limit_key="2/hour")
    row = {"features": reference[0][0].tolist()}
    assert [few.predict(row).status_code for _ in range(3)] == [200, 200, 429]
    assert few.get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/", "/predict", "/nothing", "/health", "/openapi.json"])
def test_every_answer_carries_the_security_headers(service: Any, path: str) -> None:
    headers = service.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers
