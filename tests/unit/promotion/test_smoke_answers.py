from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts.manifest import Manifest
from bc_pipeline.artifacts.verdict import Smoke
from bc_pipeline.errors import SmokeTestFailed, TransientError
from bc_pipeline.promotion.smoke_answers import (
    Answer,
    compare_answers,
    median_ms,
    request_answers,
)

LATENCY_MS, PARITY = 50.0, 1e-9


@pytest.fixture
def manifest(releases: Any) -> Manifest:
    """Threshold 0.4."""
    return releases.draft("v9")


# Comparison


def answer(row: int, probability: object, ms: float = 2.0, **changes: Any) -> Answer:
    """What the service answers for a probability of malignant, with fields exchanged."""
    positive = isinstance(probability, float) and probability > 0.4
    content = {
        "probabilities": {"malignant": probability},
        "prediction": 0 if positive else 1,
        "label": "malignant" if positive else "benign",
        "model_version": "v9",
    }
    content |= changes
    return Answer(row, {name: value for name, value in content.items() if value is not None}, ms)


@pytest.fixture
def compare(manifest: Manifest) -> Callable[..., Smoke]:
    def run(golden: list[float], *answers: Answer) -> Smoke:
        return compare_answers([*answers], manifest, np.array(golden), LATENCY_MS, PARITY)

    return run


def test_equal_answers_pass_with_the_worst_difference_and_the_median(
    compare: Callable[..., Smoke],
) -> None:
    result = compare(
        [0.9, 0.1],
        answer(0, 0.9, 1.0),
        answer(1, 0.1 + 4e-10, 2.23456),
        answer(0, 0.9 - 2e-10, 50.0),
    )
    assert result.worst_difference == pytest.approx(4e-10, rel=1e-3)
    assert result == Smoke(True, 2, result.worst_difference, 2.235, "")


def test_the_bounds_themselves_pass(compare: Callable[..., Smoke], manifest: Manifest) -> None:
    result = compare_answers([answer(0, 0.5, 50.0)], manifest, np.array([0.75]), 50.0, 0.25)
    assert result == Smoke(True, 1, 0.25, 50.0, "")


def test_every_difference_is_a_reason(compare: Callable[..., Smoke]) -> None:
    result = compare([0.9, 0.1, 0.2], answer(0, 0.3, 60.04), answer(1, 0.8, 70.0), answer(2, 0.2))
    assert result == Smoke(
        False,
        3,
        pytest.approx(0.7),
        60.04,
        "a probability is off by 0.7, more than 1e-09; 2 of 3 calls are wrong; "
        "the median answer took 60.0 ms, more than 50",
    )


@pytest.mark.parametrize("changes", [{"prediction": 1}, {"label": "benign"}])
def test_a_wrong_call_of_a_right_probability_fails(
    compare: Callable[..., Smoke], changes: dict[str, Any]
) -> None:
    wrong = [answer(0, 0.9, **changes)] * 2
    assert compare([0.9], *wrong) == Smoke(False, 1, 0.0, 2.0, "1 of 1 calls are wrong")


@pytest.mark.parametrize(
    ("golden", "answered"), [(0.4, 0.4 + 1e-10), (0.4 + 1e-10, 0.4), (0.4, 0.4)]
)
def test_near_the_threshold_the_service_may_call_either_way(
    compare: Callable[..., Smoke], golden: float, answered: float
) -> None:
    assert compare([golden], answer(0, answered)).passed


@pytest.mark.parametrize("golden", [0.4 - 2e-9, 0.4 + 2e-9])
def test_elsewhere_the_call_must_be_that_of_the_golden_probability(
    compare: Callable[..., Smoke], golden: float
) -> None:
    assert "calls are wrong" in compare([golden], answer(0, 0.8 - golden)).reason


@pytest.mark.parametrize("golden", [math.nan, 0.9])
def test_a_difference_that_is_no_number_fails(compare: Callable[..., Smoke], golden: float) -> None:
    result = compare([golden], answer(0, "NaN" if golden == 0.9 else 0.9))
    assert (result.passed, result.worst_difference) == (False, None)
    assert result.reason.startswith("a probability is off by inf, more than 1e-09")


@pytest.mark.parametrize(
    "changes",
    [
        {"probabilities": None},
        {"probabilities": {"benign": 0.9}},
        {"probabilities": 0.9},
        {"probabilities": {"malignant": "high"}},
        {"prediction": None},
        {"label": None},
        {"model_version": None},
    ],
)
def test_an_answer_without_its_keys_fails(
    compare: Callable[..., Smoke], changes: dict[str, Any]
) -> None:
    result = compare([0.9], answer(0, 0.9, **changes))
    assert result == Smoke(False, 1, None, None, "An answer lacks its keys.")


def test_an_answer_by_another_version_fails(compare: Callable[..., Smoke]) -> None:
    result = compare([0.9], answer(0, 0.9, model_version="v8"))
    assert result == Smoke(False, 1, None, None, "An answer is by another version.")


def test_no_answers_fail(compare: Callable[..., Smoke]) -> None:
    assert compare([]) == Smoke(False, 0, None, None, "there were no golden rows")


def test_the_median_is_of_the_times() -> None:
    assert median_ms([answer(0, 0.1, 9.0), answer(1, 0.1, 1.0), answer(0, 0.1, 2.0)]) == 2.0


# Requests


class Service:
    """A stub of the service: remembers the requests, and answers as a test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.version = "v9"
        self.status = 200
        self.body: bytes | None = None
        self.delay = self.predict_delay = 0.0
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def respond(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                content = json.loads(self.rfile.read(size)) if size else None
                service.requests.append((self.command, self.path, dict(self.headers), content))
                time.sleep(service.predict_delay if content else service.delay)
                status, body = 200, json.dumps({"model_version": service.version}).encode()
                if self.path == "/predict" and service.body is not None:
                    status, body = service.status, service.body
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = respond  # noqa: N815 (names that http.server calls)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def service() -> Iterator[Service]:
    stub = Service()
    thread = threading.Thread(target=stub.server.serve_forever, args=(0.01,))
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    thread.join()


def rows(count: int) -> np.ndarray:
    return np.arange(30.0 * count).reshape(count, 30)


def request(
    service: Service, manifest: Manifest, values: np.ndarray, seconds: float = 20.0
) -> list[Answer]:
    return request_answers(service.port, "the-key", manifest, values, time.monotonic() + seconds)


@pytest.mark.parametrize(("count", "requests"), [(7, 35), (30, 30), (31, 31), (15, 30)])
def test_few_rows_are_sent_in_rounds(
    service: Service, manifest: Manifest, count: int, requests: int
) -> None:
    answers = request(service, manifest, rows(count))
    assert [each.row for each in answers] == [*range(count)] * (requests // count)
    assert len(service.requests) == 1 + requests
    assert all(each.content == {"model_version": "v9"} for each in answers)


def test_rows_are_sent_in_both_forms_with_the_key(service: Service, manifest: Manifest) -> None:
    values = rows(3)
    request(service, manifest, values)
    health, *predictions = service.requests
    assert health[:2] == ("GET", "/health")
    assert health[3] is None
    names = manifest.feature_schema.names
    for number, (method, path, headers, body) in enumerate(predictions):
        row = values[number % 3].tolist()
        assert (method, path) == ("POST", "/predict")
        assert headers["Content-Type"] == "application/json"
        assert headers["X-API-Key"] == "the-key"
        as_record = (number // 3 + number % 3) % 2 == 0
        assert body == (dict(zip(names, row, strict=True)) if as_record else {"features": row})


def test_the_time_of_an_answer_is_in_milliseconds(service: Service, manifest: Manifest) -> None:
    service.predict_delay = 0.02
    assert 20.0 <= median_ms(request(service, manifest, rows(30))) < 5000.0


def test_no_rows_need_no_prediction(service: Service, manifest: Manifest) -> None:
    assert request(service, manifest, rows(0)) == []
    assert [path for _, path, _, _ in service.requests] == ["/health"]


def test_values_must_be_as_many_as_the_features(service: Service, manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="zip"):
        request(service, manifest, rows(2)[:, :29])


def test_a_service_with_another_version_fails(service: Service, manifest: Manifest) -> None:
    service.version = "v8"
    with pytest.raises(SmokeTestFailed) as caught:
        request(service, manifest, rows(1))
    assert caught.value.message == "The service answers for another version."


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (422, b'{"code": "out-of-range"}', "with status 422 out-of-range."),
        (500, b"{}", "with status 500 ."),
        (503, b"[]", "with status 503 ."),
        (200, b"[1]", "with status 200 ."),
    ],
)
def test_a_refused_row_fails(
    service: Service, manifest: Manifest, status: int, body: bytes, message: str
) -> None:
    service.status, service.body = status, body
    with pytest.raises(SmokeTestFailed) as caught:
        request(service, manifest, rows(1))
    assert caught.value.message == f"POST /predict answered {message}"


def test_an_answer_that_is_no_json_fails(service: Service, manifest: Manifest) -> None:
    service.body = b"<html>"
    with pytest.raises(SmokeTestFailed) as caught:
        request(service, manifest, rows(1))
    assert caught.value.message == "POST /predict failed: JSONDecodeError."


def test_a_port_that_nobody_listens_on_fails(service: Service, manifest: Manifest) -> None:
    service.server.server_close()
    with pytest.raises(
        SmokeTestFailed, match=r"^GET /health failed: Connection(Refused|Reset)Error\.$"
    ):
        request(service, manifest, rows(1))


@pytest.mark.parametrize("seconds", [-1.0, 0.05])
def test_a_service_that_answers_too_late_is_a_transient_error(
    service: Service, manifest: Manifest, seconds: float
) -> None:
    service.delay = service.predict_delay = 0.3
    with pytest.raises(TransientError) as caught:
        request(service, manifest, rows(1), seconds)
    assert caught.value.message == "The service did not answer in time."
    assert caught.value.remedy == "Try again."


def test_the_deadline_bounds_the_first_request_by_itself(
    service: Service, manifest: Manifest
) -> None:
    service.delay = 0.3
    with pytest.raises(TransientError):
        request(service, manifest, rows(0), 0.05)


def test_the_deadline_bounds_the_later_requests_too(service: Service, manifest: Manifest) -> None:
    service.predict_delay = 1.5
    with pytest.raises(TransientError):
        request(service, manifest, rows(1), 0.75)


def test_an_answer_may_take_as_long_as_the_deadline_allows(
    service: Service, manifest: Manifest
) -> None:
    """Longer than the second that a connection waits before its first request."""
    service.delay = 1.1
    assert request(service, manifest, rows(0)) == []
