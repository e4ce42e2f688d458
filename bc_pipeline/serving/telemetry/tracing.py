"""Traces for an OpenTelemetry collector: one span for each request, where one is set.

The extra ``tracing`` of the package brings what this needs; nothing of it is imported while
``BC_OTLP_ENDPOINT`` is empty.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bc_pipeline import __version__
from bc_pipeline.errors import ConfigError
from bc_pipeline.serving.exchange import Exchange, first_header, plain
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SETTING = "BC_OTLP_ENDPOINT"
SERVICE = "bc-pipeline"
_PATH = "/v1/traces"
_OTHER = "(other)"
_SERVER_FAULT = 500
# How long the end of a worker may wait for a collector that does not answer.
_EXPORT_SECONDS = 3.0


class Tracing:
    """Makes a span of a request when it has been answered.

    A span holds the method, the template of the address, the status and the version of the
    model: no value, no address, no name of a caller. A caller's ``traceparent`` is taken up;
    its ``tracestate`` is not, because it may hold anything.

    Parameters
    ----------
    endpoint : str
        Address of a collector that takes OTLP over HTTP.

    Raises
    ------
    ConfigError
        Where the address is none, or the extra ``tracing`` is not installed.
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
    def of(cls, settings: Settings) -> Tracing | None:
        """What the settings ask for; None where they name no collector."""
        return cls(settings.otlp_endpoint) if settings.otlp_endpoint else None

    def record(
        self, exchange: Exchange, headers: list[tuple[bytes, bytes]], method: str, seconds: float
    ) -> None:
        """Make the span of one request that has been answered."""
        end = time.time_ns()
        parent = first_header(headers, b"traceparent")
        carrier = {"traceparent": plain(parent)} if parent is not None else {}
        known = exchange.route != _OTHER
        name = "HTTP" if method == _OTHER else method
        attributes: dict[str, str | int] = {
            "http.request.method": "_OTHER" if method == _OTHER else method,
            "http.response.status_code": int(exchange.status),
        }
        if known:
            attributes["http.route"] = exchange.route
        if exchange.model is not None:
            attributes["bc.model_version"] = exchange.model
        span = self._tracer.start_span(
            f"{name} {exchange.route}" if known else name,
            context=self._propagator.extract(carrier),
            kind=self._kind,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if exchange.status >= _SERVER_FAULT:
            span.set_status(self._fault)
        span.end(end)

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
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
    """Where traces go: the path that OTLP has for them, where the address has none."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{SETTING} is no address of a collector.",
            "Set it to one such as http://collector:4318.",
            setting=SETTING,
        )
    return parts._replace(path=parts.path if parts.path.strip("/") else _PATH).geturl()
