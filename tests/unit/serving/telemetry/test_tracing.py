"""Traces, as a collector receives them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from bc_pipeline.errors import ConfigError
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.tracing import Tracing
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"X-API-Key": "test-key-of-the-unit-tests"}


class Collector:
    """Receives OTLP over HTTP and stores it."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.append(self.path)
                length = int(self.headers["Content-Length"])
                collector._bodies.append(self.rfile.read(length))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bytes(self) -> bytes:
        return b"".join(self._bodies)

    def resources(self) -> list[Any]:
        return [
            group
            for body in self._bodies
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
        ]

    def spans(self) -> list[Any]:
        return [
            span
            for group in self.resources()
            for scope in group.scope_spans
            for span in scope.spans
        ]


def values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def traced(collector: Collector, releases: Any, fitted: Any, start: Callable[..., Any]) -> Any:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    return start(otlp_endpoint=collector.endpoint)


def flush(service: Any) -> None:
    service.app.state.services.tracing.close()


def test_a_request_is_one_span(traced: Any, collector: Collector, reference: Any) -> None:
    before = time.time_ns()
    traced.predict({"features": reference[0][0].tolist()})
    flush(traced)
    assert collector.paths == ["/v1/traces"]
    (span,) = collector.spans()
    assert span.name == "POST /predict"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert values(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "bc.model_version": "v1",
    }
    assert before <= span.start_time_unix_nano < span.end_time_unix_nano <= time.time_ns()
    assert span.parent_span_id == b""
    assert span.status.code == Status.STATUS_CODE_UNSET
    (group,) = collector.resources()
    resource = values(group.resource.attributes)
    assert resource["service.name"] == "bc-pipeline"
    assert {name.partition(".")[0] for name in resource} == {"service", "telemetry"}


def test_the_documented_route_makes_the_same_span(traced: Any, collector: Collector) -> None:
    traced.get("/livez")
    flush(traced)
    (span,) = collector.spans()
    assert span.name == "GET /livez"
    assert "bc.model_version" not in values(span.attributes)


def test_the_caller_s_trace_is_continued(traced: Any, collector: Collector) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    traced.request("GET", "/livez", headers=headers)
    flush(traced)
    (span,) = collector.spans()
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == PARENT


def test_a_caller_s_decision_not_to_sample_is_respected(traced: Any, collector: Collector) -> None:
    traced.request("GET", "/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    flush(traced)
    assert collector.spans() == []


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{TRACE}-{PARENT}", "00-" + "z" * 52])
def test_a_malformed_parent_begins_a_new_trace(
    parent: str, traced: Any, collector: Collector
) -> None:
    assert traced.request("GET", "/livez", headers={"traceparent": parent}).status_code == 200
    flush(traced)
    (span,) = collector.spans()
    assert span.parent_span_id == b""


def test_an_internal_error_is_marked_in_the_span(
    traced: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Services, "readiness", lambda services: 1 / 0)
    assert traced.get("/readyz").status_code == 500
    traced.get("/nowhere")
    flush(traced)
    fault, refusal = collector.spans()
    assert fault.status.code == Status.STATUS_CODE_ERROR
    assert fault.status.message == ""
    assert list(fault.events) == []
    assert refusal.status.code == Status.STATUS_CODE_UNSET
    assert refusal.name == "GET"
    assert "http.route" not in values(refusal.attributes)


def test_spans_carry_no_text_of_the_client(traced: Any, collector: Collector) -> None:
    traced.request(
        "CANARYMETHOD",
        "/canary-path/canary?canary=canary",
        headers={
            "X-API-Key": "canary-key",
            "tracestate": "canary=canary",
            "baggage": "canary=canary",
            "User-Agent": "canary",
            "traceparent": f"00-{TRACE}-{PARENT}-01",
        },
    )
    traced.predict({"canary-name": "canary-value", "id": "canary-id"})
    flush(traced)
    assert len(collector.spans()) == 2
    assert b"canary" not in collector.bytes.lower()
    assert b"127.0.0.1" not in collector.bytes


def test_an_endpoint_may_have_its_own_path(collector: Collector, start: Any) -> None:
    service = start(otlp_endpoint=f"{collector.endpoint}/tenant/v1/traces")
    service.get("/livez")
    flush(service)
    assert collector.paths == ["/tenant/v1/traces"]


def test_without_a_collector_there_is_no_tracing(settings: Settings) -> None:
    assert Tracing.from_settings(settings) is None


def test_an_unavailable_collector_costs_no_answer_and_delays_the_end_little(start: Any) -> None:
    # Nothing listens on a port that was just released.
    closed = Collector()
    closed.stop()
    service = start(otlp_endpoint=closed.endpoint)
    assert service.get("/livez").status_code == 200
    flushing = threading.Thread(target=flush, args=(service,), daemon=True)
    flushing.start()
    # The exporter gives up after three seconds.
    flushing.join(PATIENCE)
    assert not flushing.is_alive()


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "x"])
def test_an_invalid_endpoint_names_its_setting(endpoint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Tracing(endpoint)
    assert caught.value.setting == "BC_OTLP_ENDPOINT"


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter"])
def test_a_missing_extra_is_named_in_the_error(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"bc-pipeline\[tracing\]") as caught:
        Tracing("http://collector:4318")
    assert caught.value.setting == "BC_OTLP_ENDPOINT"


@pytest.mark.integration
def test_opentelemetry_is_not_imported_while_tracing_is_off() -> None:
    program = (
        "import sys; import bc_pipeline.serving.app;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
