"""Traces for an OpenTelemetry collector: one span per request.

Needs the package's extra ``tracing``, which is not imported while ``BC_OTLP_ENDPOINT`` is empty.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bc_pipeline import __version__
from bc_pipeline.errors import ConfigError
from bc_pipeline.serving.headers import first_header
from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SETTING = "BC_OTLP_ENDPOINT"
SERVICE = "bc-pipeline"
_PATH = "/v1/traces"
_OTHER = "(other)"
_SERVER_FAULT = 500
# How long a worker that stops waits for a collector that does not answer.
_EXPORT_SECONDS = 3.0


class Tracing:
    """Records a span for each answered request.

    A span has the method, the path template, the status and the version of the model, but no
    value, no address and no name of a caller. A caller's ``traceparent`` is continued; its
    ``tracestate`` is ignored, because it may contain anything.

    Parameters
    ----------
    endpoint : str
        URL of a collector that accepts OTLP over HTTP.

    Raises
    ------
    ConfigError
        Where the URL is invalid, or the extra ``tracing`` is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        self._provider = _provider(_traces_url(endpoint))
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = self._provider.get_tracer("bc_pipeline.serving", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._fault = Status(StatusCode.ERROR)

    @classmethod
    def from_settings(cls, settings: Settings) -> Tracing | None:
        """None where the settings name no collector."""
        return cls(settings.otlp_endpoint) if settings.otlp_endpoint else None

    def record(
        self,
        context: RequestContext,
        headers: list[tuple[bytes, bytes]],
        method: str,
        seconds: float,
    ) -> None:
        """Record the span of a request that was answered just now."""
        end = time.time_ns()
        parent = first_header(headers, b"traceparent")
        carrier = {"traceparent": parent.decode("latin-1")} if parent is not None else {}
        known = context.route != _OTHER
        name = "HTTP" if method == _OTHER else method
        attributes: dict[str, str | int] = {
            "http.request.method": "_OTHER" if method == _OTHER else method,
            "http.response.status_code": int(context.status),
        }
        if known:
            attributes["http.route"] = context.route
        if context.model is not None:
            attributes["bc.model_version"] = context.model
        span = self._tracer.start_span(
            f"{name} {context.route}" if known else name,
            context=self._propagator.extract(carrier),
            kind=self._kind,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if context.status >= _SERVER_FAULT:
            span.set_status(self._fault)
        span.end(end)

    def close(self) -> None:
        """Send waiting spans, for a few seconds at most."""
        self._provider.shutdown()


def _provider(url: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            f"Traces need packages that are not installed: {error.name} is missing.",
            f"Install the extra 'tracing' (bc-pipeline[tracing]), or leave {SETTING} empty.",
            setting=SETTING,
        ) from None
    resource = Resource.create({"service.name": SERVICE, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _traces_url(endpoint: str) -> str:
    """The URL that traces are sent to; OTLP's default path where the endpoint has none."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{SETTING} is not the URL of a collector.",
            "Set it to one such as http://collector:4318.",
            setting=SETTING,
        )
    return parts._replace(path=parts.path if parts.path.strip("/") else _PATH).geturl()
