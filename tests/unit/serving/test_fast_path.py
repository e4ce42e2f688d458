"""The fast path answers, counts and logs like the documented route."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from bc_pipeline.auth.api_keys import create_key
from bc_pipeline.errors import DecryptionFailed, RecordsAway
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.fast_path import PREDICT_PATHS
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.settings import Settings
from tests.redis_server import Redis
from tests.unit.serving.conftest import KEY, Service
from tests.waiting import wait_until

GOOD = {"Content-Type": "application/json", "X-API-Key": KEY}


@pytest.fixture
def ways(same_ids: Settings) -> Iterator[tuple[Service, Service]]:
    """The service with and without the fast path; both make the same ids."""
    both = tuple(
        Service(create_app(same_ids, worker=f"w{int(quick)}", use_fast_path=quick))
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
def test_fast_path_and_route_answer_with_the_same_bytes(
    ways: tuple[Service, Service], reference: Any, wdbc: Any, path: str, name: str
) -> None:
    answers = []
    for service in ways:
        case = cases(reference[0][0].tolist(), wdbc.schema.names)[name]
        headers = GOOD | case.pop("headers", {})
        answers.append(shown(service.request("POST", path, headers=headers, **case)))
    assert answers[0] == answers[1]
    assert answers[0][0] in (200, 400, 401, 413, 415, 422)
    assert [service.served.fast_answers for service in ways] == [int(answers[0][0] == 200), 0]


def test_an_internal_error_is_logged_without_its_message(
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
        # A fault of the client is not an error line of the service.
        with capture_logs() as lines:
            assert service.predict({"features": []}).status_code == 422
        assert [line for line in lines if line["event"] == "request_failed"] == []


def test_fast_path_and_route_refuse_a_missing_scope_or_model(
    settings: Settings, ways: tuple[Service, Service]
) -> None:
    raw, _ = create_key(settings.service_keys, "reader", ["read"])
    for service in ways:
        service.app.state.services.authenticator.refresh()
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


def test_fast_path_and_route_count_and_log_the_same(
    ways: tuple[Service, Service], reference: Any, wdbc: Any
) -> None:
    observed = []
    for service in ways:
        services, stream = service.app.state.services, io.BytesIO()
        object.__setattr__(services, "access_log", AccessLog(stream=stream))
        for case in cases(reference[0][0].tolist(), wdbc.schema.names).values():
            headers = GOOD | case.pop("headers", {})
            service.request("POST", "/v1/predict", headers=headers, **case)
        services.access_log.flush()
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
        observed.append((lines, counted))
    assert observed[0] == observed[1]
    assert len(observed[0][0]) == len(NAMES)
    assert ways[0].served.fast_answers == sum(line["status"] == 200 for line in observed[0][0]) == 5


def test_a_failure_on_the_fast_path_counts_once(
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
        patched.setattr(services.spool, "append", fail_to_append)
        assert [service.predict(row).status_code for _ in range(2)] == [503, 503]
    assert [service.predict(row).status_code for _ in range(2)] == [200, 429]
    assert services.metrics.in_flight == 0
    assert service.served.fast_answers == 1
    service.stop()


@pytest.mark.parametrize("limit", ["rate_limit_key", "rate_limit_address"])
def test_a_request_beyond_a_limit_is_refused_before_it_is_recorded(
    settings: Settings, ways: tuple[Service, Service], reference: Any, limit: str
) -> None:
    row = {"features": reference[0][0].tolist()}
    changed = settings.model_copy(update={limit: "3/hour"})
    service = Service(create_app(changed, worker="limited"))
    services = service.app.state.services
    answers = [service.predict(row) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    assert {answer.json()["code"] for answer in answers[3:]} == {"rate-limited"}
    assert service.served.fast_answers == recorded(settings, "limited") == 3
    assert services.metrics.in_flight == 0
    service.stop()


def test_counts_of_other_workers_that_arrive_meanwhile_refuse_before_the_record(
    settings: Settings,
    ways: tuple[Service, Service],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that reads Redis changes the counts while a model computes."""
    row = {"features": reference[0][0].tolist()}
    service = Service(create_app(settings.model_copy(update={"rate_limit_key": "3/hour"})))
    services = service.app.state.services
    append = services.spool.append

    def append_then_count(entries: Any) -> None:
        append(entries)
        for window in services.rate_limiter._keys._windows.values():
            window.others = 3

    monkeypatch.setattr(services.spool, "append", append_then_count)
    before = recorded(settings, "worker")
    assert [service.predict(row).status_code for _ in range(2)] == [200, 429]
    assert recorded(settings, "worker") - before == service.served.fast_answers == 1
    service.stop()


def test_a_refusal_by_one_limit_is_not_counted_by_the_other(
    settings: Settings, ways: tuple[Service, Service], reference: Any
) -> None:
    limits = {"rate_limit_key": "1/hour", "rate_limit_address": "4/hour"}
    row = {"features": reference[0][0].tolist()}
    for is_fast in (True, False):
        changed = settings.model_copy(update=limits)
        service = Service(create_app(changed, worker=f"one{is_fast:d}", use_fast_path=is_fast))
        kinds = [service.predict(row).status_code for _ in range(5)]
        assert kinds == [200] + [429] * 4
        (window,) = service.app.state.services.rate_limiter._addresses._windows.values()
        assert window.granted - window.remaining == 4
        service.stop()


@pytest.mark.parametrize("name", ["charge", "count_key", "count_address"])
def test_a_limiter_that_raises_is_an_error_of_the_service_and_nothing_is_recorded(
    settings: Settings,
    ways: tuple[Service, Service],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("canary")

    limiter = ways[0].app.state.services.rate_limiter
    if name == "charge":
        monkeypatch.setattr(limiter._keys, "count", fail)
    else:
        monkeypatch.setattr(limiter, "charge", fail)
        monkeypatch.setattr(limiter, name, fail)
    before = recorded(settings, "w1")
    answer = ways[0].predict({"features": reference[0][0].tolist()})
    assert (answer.status_code, answer.json()["code"]) == (500, "pipeline-error")
    assert "canary" not in answer.text
    assert recorded(settings, "w1") == before
    assert ways[0].served.fast_answers == 0


def test_an_error_after_the_record_makes_no_second_one(
    settings: Settings,
    ways: tuple[Service, Service],
    reference: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("canary")

    services = ways[0].app.state.services
    monkeypatch.setattr(services.metrics, "count_predictions", fail)
    before = recorded(settings, "w1")
    with pytest.raises(RuntimeError):
        # The protocol answers 500 and closes the connection.
        ways[0].predict({"features": reference[0][0].tolist()})
    assert recorded(settings, "w1") - before == 1


@pytest.mark.integration
def test_workers_that_share_a_limit_record_what_they_answer_and_nothing_else(
    settings: Settings, ways: tuple[Service, Service], reference: Any, redis_server: Redis
) -> None:
    row = {"features": reference[0][0].tolist()}
    limits = {"rate_limit_key": "40/hour", "rate_limit_address": "60/hour"}
    changed = settings.model_validate(
        settings.model_dump() | limits | {"redis_url": redis_server.url}
    )
    workers = [Service(create_app(changed, worker=f"shared-{number}")) for number in range(2)]
    try:
        client, statuses = redis_server.client(), []
        for service in workers * 60:
            statuses.append(service.predict(row).status_code)
            # A count is reported in the background: a busy machine may take its time.
            wait_until(lambda: reported(client) >= statuses.count(200))
        redis_server.stop()
        statuses += [service.predict(row).status_code for service in workers]
        assert set(statuses) == {200, 429}
        # One lease more or less for each worker.
        assert 38 <= statuses.count(200) <= 42
        assert recorded(settings, "shared-") == statuses.count(200)
    finally:
        for service in workers:
            service.stop()


def reported(redis: Any) -> int:
    """How many requests of callers the workers have reported."""
    return sum(int(redis.get(name)) for name in redis.keys("*key/*"))


def recorded(settings: Settings, worker: str) -> int:
    """How many answers are in a worker's log; all have the same id."""
    files = [path for path in settings.records.rglob(f"*{worker}*") if path.is_file()]
    return sum(path.read_bytes().count(b"01900000-0000-7000-8000-000000000000") for path in files)


def fail_to_append(entries: Any) -> None:
    raise RecordsAway("The log is away.")


def test_the_fast_path_follows_the_model(
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
    assert service.served.fast_answers == 3


def test_an_answer_is_logged_before_it_is_sent(
    ways: tuple[Service, Service], reference: Any, settings: Settings
) -> None:
    row = reference[0][0].tolist()
    for service in ways:
        before = service.app.state.services.spool.state().backlog
        assert service.predict({"features": row}).status_code == 200
        written = [path.read_bytes() for path in settings.records.rglob("*") if path.is_file()]
        assert any(b"01900000-0000-7000-8000-000000000000" in data for data in written)
        assert service.app.state.services.spool.state().backlog >= before
