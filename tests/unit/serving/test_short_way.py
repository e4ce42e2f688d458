"""The short way differs from the documented route in nothing but its speed."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from bc_pipeline.access.keys import create_key
from bc_pipeline.errors import DecryptionFailed, RecordsAway
from bc_pipeline.serving import exchange, predict
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.short_way import PREDICT_PATHS
from bc_pipeline.serving.telemetry.access_log import AccessLog
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
    assert [service.served.short for service in ways] == [int(answers[0][0] == 200), 0]


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


def test_both_ways_count_and_log_the_same(
    ways: tuple[Service, Service], reference: Any, wdbc: Any
) -> None:
    told = []
    for service in ways:
        services, stream = service.app.state.services, io.BytesIO()
        object.__setattr__(services, "log", AccessLog(stream=stream))
        for case in cases(reference[0][0].tolist(), wdbc.schema.names).values():
            headers = GOOD | case.pop("headers", {})
            service.request("POST", "/v1/predict", headers=headers, **case)
        services.log.flush()
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        for line in lines:
            del line["ms"], line["timestamp"]
        services.metrics.publish()
        # The worker's own memory and time are no matter of the way.
        counted = {
            (sample.name, *sample.labels.values()): sample.value
            for family in services.metrics.collect()
            for sample in family.samples
            if sample.name.startswith("bc_") and sample.name.endswith(("_total", "_count"))
        }
        told.append((lines, counted))
    assert told[0] == told[1]
    assert len(told[0][0]) == len(NAMES)
    assert ways[0].served.short == sum(line["status"] == 200 for line in told[0][0]) == 5


def test_what_fails_on_the_short_way_counts_once(
    settings: Settings,
    ways: tuple[Service, Service],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = {"features": reference[0][0].tolist()}
    changed = settings.model_copy(update={"rate_limit_key": "3/hour"})
    service = Service(create_app(changed, worker="limited"))
    services = service.app.state.services
    with monkeypatch.context() as patched:
        patched.setattr(services.spool, "append", away)
        assert [service.predict(row).status_code for _ in range(2)] == [503, 503]
    assert [service.predict(row).status_code for _ in range(2)] == [200, 429]
    assert services.metrics.in_flight == 0
    assert service.served.short == 1
    service.stop()


def away(entries: Any) -> None:
    raise RecordsAway("The log is away.")


def test_the_short_way_follows_the_model(
    ways: tuple[Service, Service], reference: Any, releases: Any, fitted: Any
) -> None:
    row = {"features": reference[0][0].tolist()}
    service = ways[0]
    for version in ("v1", "v2", "v1"):
        if version == "v2":
            releases.publish("v2", fitted[0])
        releases.promote(version)
        service.model.refresh()
        answer = service.predict(row)
        assert answer.json()["model_version"] == answer.headers["x-model-version"] == version
    assert service.served.short == 3


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
