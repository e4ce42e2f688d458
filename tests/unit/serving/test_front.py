"""The outermost layer; above all, that its short way differs in nothing but its speed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from bc_pipeline.access.keys import create_key
from bc_pipeline.errors import DecryptionFailed
from bc_pipeline.serving import exchange, predict
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.exchange import WHOLE_ANSWER
from bc_pipeline.serving.front import PREDICT_PATHS
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, Service

GOOD = {"Content-Type": "application/json", "X-API-Key": KEY}


@pytest.fixture
def ways(
    settings: Settings,
    api_key: str,
    releases: Any,
    fitted: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Service, Service]]:
    """The service with the short way and without; both make the same ids."""
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    monkeypatch.setattr(predict, "new_id", lambda: "01900000-0000-7000-8000-000000000000")
    monkeypatch.setattr(exchange, "new_id", lambda: "01900000-0000-7000-8000-000000000001")
    both = tuple(
        Service(create_app(settings, worker=f"w{int(quick)}", quick=quick))
        for quick in (True, False)
    )
    yield both
    for service in both:
        service.stop()


def shown(response: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    return response.status_code, sorted(response.headers.raw), response.content


async def in_parts(body: bytes) -> AsyncIterator[bytes]:
    """A body that is sent without its length."""
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


def cases(row: list[float], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    record = json.dumps(dict(zip(names, row, strict=True)))
    unusual = json.dumps(dict(zip(names, row, strict=True)) | {"texture_error": 6.5})
    return {
        "named": {"content": record},
        "list": {"content": json.dumps({"features": row})},
        "list with id": {"content": json.dumps({"id": "a", "features": row})},
        "unusual": {"content": unusual},
        "empty": {"content": ""},
        "not JSON": {"content": "{"},
        "missing": {"content": "{}"},
        "NaN": {"content": record.replace("17.99", "NaN")},
        "too large": {"content": b" " * (1024 * 1024 + 1)},
        "declared too large": {"content": "{}", "headers": {"Content-Length": "99999999"}},
        "no length": {"content": in_parts(record.encode())},
        "no type": {"content": record, "headers": {"Content-Type": ""}},
        "gzip": {"content": record, "headers": {"Content-Encoding": "gzip"}},
        "no key": {"content": record, "headers": {"X-API-Key": ""}},
        "wrong key": {"content": record, "headers": {"X-API-Key": "wrong-key-wrong-key"}},
        "two keys": {"content": record, "headers": {"Authorization": f"Bearer {KEY}"}},
    }


NAMES = tuple(cases([0.0] * 30, tuple("x" * n for n in range(30))))


@pytest.mark.parametrize("path", sorted(PREDICT_PATHS))
@pytest.mark.parametrize("name", NAMES)
def test_both_ways_answer_with_the_same_bytes(
    ways: tuple[Service, Service], reference: Any, wdbc: Any, path: str, name: str
) -> None:
    answers = []
    for service in ways:
        case = cases(reference[0][0].tolist(), wdbc.schema.names)[name]
        headers = GOOD | case.pop("headers", {})
        answers.append(shown(service.request("POST", path, headers=headers, **case)))
    assert answers[0] == answers[1]
    assert answers[0][0] in (200, 400, 401, 413, 415, 422)


def test_an_answer_in_one_piece_has_the_same_bytes(
    ways: tuple[Service, Service], reference: Any, wdbc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases(reference[0][0].tolist(), wdbc.schema.names)["named"]
    status, headers, body = shown(ways[0].predict(**case))
    written: list[Any] = []

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        def write(*answer: Any) -> bool:
            written.append(answer)
            return False

        scope["extensions"] = {WHOLE_ANSWER: {"write": write}}
        await ways[0].app(scope, receive, send)

    client = httpx.AsyncClient(transport=httpx.ASGITransport(whole), base_url="http://service")
    monkeypatch.setattr(ways[0], "_client", client)
    for _ in range(2):
        assert shown(ways[0].predict(**case)) == (status, headers, body)
    for answer in written:
        lines = [tuple(line.split(b": ", 1)) for line in answer[1].split(b"\r\n")]
        assert (answer[0], sorted(lines), answer[2]) == (status, [(b"",), *headers], body)
    assert len(written) == 2


def test_a_fault_of_the_service_is_in_its_log_without_its_message(
    ways: tuple[Service, Service],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise DecryptionFailed("canary", key_id="canary")

    for service in ways:
        monkeypatch.setattr(service.app.state.services.spool, "append", fail)
        with capture_logs() as lines:
            answer = service.predict({"features": reference[0][0].tolist()})
        assert answer.status_code == 500
        (line,) = [line for line in lines if line["event"] == "request_failed"]
        assert line["request"] == answer.headers["x-request-id"]
        assert line["code"] == "decryption-failed"
        assert "DecryptionFailed at " in line["error"]
        assert "canary" not in str(line) + answer.text
        # What is the client's fault is not a line of the service's.
        with capture_logs() as lines:
            assert service.predict({"features": []}).status_code == 422
        assert [line for line in lines if line["event"] == "request_failed"] == []


def test_both_ways_refuse_a_scope_and_a_model_that_is_not_there(
    settings: Settings, ways: tuple[Service, Service]
) -> None:
    raw, _ = create_key(settings.service_keys, "reader", ["read"])
    for service in ways:
        service.app.state.services.guard.refresh()
    answers = [
        shown(s.request("POST", "/predict", headers=GOOD | {"X-API-Key": raw})) for s in ways
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 403
    for service in ways:
        service.model.current = None
    answers = [shown(s.predict({"features": []})) for s in ways]
    assert answers[0] == answers[1]
    assert answers[0][0] == 503


def test_an_answer_is_in_the_log_before_it_is_given(
    ways: tuple[Service, Service], reference: Any, settings: Settings
) -> None:
    row = reference[0][0].tolist()
    for service in ways:
        before = service.app.state.services.spool.state().backlog
        assert service.predict({"features": row}).status_code == 200
        written = [path.read_bytes() for path in settings.records.rglob("*") if path.is_file()]
        assert any(b"01900000-0000-7000-8000-000000000000" in data for data in written)
        assert service.app.state.services.spool.state().backlog >= before


def test_an_address_that_is_not_on_the_list_gets_nothing(
    service: Any, start: Callable[..., Any]
) -> None:
    closed = start(allowed_addresses=("10.0.0.0/8",))
    for path in ("/livez", "/nothing", "/predict"):
        answer = closed.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "address-refused")


def test_failures_are_limited_before_the_work(start: Callable[..., Any]) -> None:
    service = start(rate_limit_failures="3/hour")
    statuses = [service.get("/nothing").status_code for _ in range(5)]
    assert statuses == [404, 404, 404, 429, 429]
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "wrong-key-wrong-key"}):
        for path in ("/predict", "/v1/model", "/openapi.json", "/nothing"):
            limited = service.request("POST", path, headers=headers)
            assert (limited.status_code, limited.json()["code"]) == (429, "rate-limited")
            assert int(limited.headers["retry-after"]) > 0
    assert service.request("POST", "/livez").status_code == 429


def test_failures_of_others_behind_an_address_lock_nobody_out(
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
def test_failures_of_others_do_not_reach_a_probe(
    service: Any, start: Callable[..., Any], path: str
) -> None:
    shared = start(rate_limit_failures="3/hour")
    assert [shared.get("/nothing").status_code for _ in range(4)][-1] == 429
    for method in ("GET", "HEAD"):
        assert shared.request(method, path).status_code == 200


def test_a_key_is_limited(service: Any, start: Callable[..., Any], reference: Any) -> None:
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


def test_cors_is_for_the_origins_that_are_named(start: Callable[..., Any]) -> None:
    service = start(cors_origins=("https://app.example",))
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    good = service.request("OPTIONS", "/predict", headers={"Origin": "https://app.example"} | ask)
    assert good.headers["access-control-allow-origin"] == "https://app.example"
    bad = service.request("OPTIONS", "/predict", headers={"Origin": "https://evil.example"} | ask)
    assert "access-control-allow-origin" not in bad.headers
    plain = start().request("OPTIONS", "/predict", headers={"Origin": "https://app.example"} | ask)
    assert "access-control-allow-origin" not in plain.headers


def test_pages_of_other_origins_may_read_the_headers_that_the_service_promises(
    service: Any, start: Callable[..., Any]
) -> None:
    shared = start(cors_origins=("https://app.example",))
    headers = GOOD | {"Origin": "https://app.example"}
    answer = shared.request("POST", "/predict", content="{}", headers=headers)
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"X-Request-Id", "Retry-After", "X-Model-Version", "Location"}
