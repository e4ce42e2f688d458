"""The outermost layer: what holds for every request, and the short way of ``POST /predict``.

The short way and the documented route end in the same `predict_body`; the layer only spares
a prediction the framework's routing and request objects. A test holds both to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bc_pipeline.errors import AddressRefused, KeyRefused, PipelineError, RateLimited
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.admission import admit
from bc_pipeline.serving.bodies.reading import read_body, require_json
from bc_pipeline.serving.exchange import WHOLE_ANSWER, Exchange, headers_of
from bc_pipeline.serving.predict import predict_body
from bc_pipeline.serving.services import Services

# nginx's number for a client that went away before the answer.
CLIENT_GONE = 499
PREDICT_PATHS = frozenset({"/predict", "/v1/predict"})
# Whoever asks here decides whether the service is restarted or gets requests.
_PROBES = frozenset(
    {"/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"}
)
_FAILURES = frozenset({401, 403, 404, 405})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_JSON = (b"content-type", b"application/json")
_SECURITY = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")


class Front:
    """ASGI middleware around the whole application.

    An address that the service does not have may hold anything, so it is not logged; nor
    are query strings, headers or bodies. An error that nothing else handled becomes a
    problem with status 500 and a log line with the class of the error and its place.

    Parameters
    ----------
    quick : bool
        Whether predictions take the short way.
    """

    def __init__(self, app: ASGIApp, services: Services, *, quick: bool = True) -> None:
        self._app = app
        self._services = services
        self._quick = PREDICT_PATHS if quick else frozenset()
        self._probes = _PROBES | {f"/v2/models/{services.settings.service_problem}/ready"}
        secure = services.settings.tls_cert_file is not None
        self._security = [*_SECURITY, *([_STRICT_TRANSPORT] if secure else [])]
        self._of_model: Sequence[tuple[bytes, bytes]] = ()
        self._lines = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = scope["client"]
        client = self._services.addresses.client(peer[0] if peer else "", headers_of(scope))
        exchange = Exchange(scope, client)
        self._services.metrics.in_flight += 1
        try:
            full = self._room(client)
            if full is not None and not self._is_probe(scope):
                await self._require_accepted(scope, full)
            if (
                scope["path"] in self._quick
                and scope["method"] == "POST"
                and not scope["query_string"]
            ):
                await self._predict(exchange, scope, receive, send)
            else:
                await self._pass_on(exchange, scope, receive, send)
        except ClientDisconnect:
            exchange.status = CLIENT_GONE
        except PipelineError as error:
            self._services.metrics.refused(error)
            problem_details.log_fault(exchange.id, error)
            response = problem_details.from_error(error)
            await self._answer(exchange, scope, receive, send, response)
        except Exception as error:
            problem_details.log_fault(exchange.id, error)
            begun, exchange.status = exchange.status, int(HTTPStatus.INTERNAL_SERVER_ERROR)
            if not begun:
                await self._answer(exchange, scope, receive, send, problem_details.internal_error())
        finally:
            self._finish(exchange, scope)

    def _room(self, client: str) -> RateLimited | None:
        """Refuse an address, or say that its requests failed too often."""
        if not self._services.addresses.allowed(client):
            raise AddressRefused("This address may not use the service.")
        self._services.limiter.spend_address(client)
        try:
            self._services.limiter.check_failures(client)
        except RateLimited as full:
            return full
        return None

    def _is_probe(self, scope: Scope) -> bool:
        return scope["path"] in self._probes and scope["method"] in ("GET", "HEAD")

    async def _require_accepted(self, scope: Scope, full: RateLimited) -> None:
        """From an address with too many failures only accepted credentials are let through.

        Others may be behind the same address. Wrong credentials get the same answer as none.
        """
        try:
            await self._services.guard.identify(headers_of(scope), scope["query_string"])
        except KeyRefused:
            raise full from None

    async def _predict(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """What the documented route does, without the framework around it."""
        exchange.route = scope["path"]
        headers = headers_of(scope)
        await admit(self._services, scope, exchange, "predict")
        require_json(headers)
        reply = predict_body(self._services, exchange, await read_body(receive, headers))
        exchange.status = 200
        length = b"%d" % len(reply.body)
        whole = scope.get("extensions", {}).get(WHOLE_ANSWER)
        if whole is not None:
            lines = b"%scontent-length: %s\r\nx-request-id: %s\r\n" % (
                self._constant_lines(reply.headers),
                length,
                exchange.id.encode(),
            )
            if whole["write"](200, lines, reply.body):
                return
        given = [*reply.headers, (b"content-length", length), _JSON, *self._headers(exchange)]
        await send({"type": "http.response.start", "status": 200, "headers": given})
        await send({"type": "http.response.body", "body": reply.body})

    def _constant_lines(self, of_model: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Lines of the headers that all answers of a model share, joined once for each model."""
        if of_model is not self._of_model:
            pairs = (*of_model, _JSON, *self._security)
            self._of_model, self._lines = of_model, b"".join(b"%s: %s\r\n" % pair for pair in pairs)
        return self._lines

    async def _pass_on(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await self._app(scope, receive, self._sender(exchange, send))
        finally:
            # A request that failed has a route too.
            exchange.route = getattr(scope.get("route"), "path", exchange.route)

    async def _answer(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send, response: Response
    ) -> None:
        problem = problem_details.as_read_at(scope["path"], response)
        await problem(scope, receive, self._sender(exchange, send))

    def _sender(self, exchange: Exchange, send: Send) -> Send:
        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                given = message["headers"]
                names = {name for name, _ in given}
                message["headers"] = [
                    *given,
                    *(pair for pair in self._headers(exchange) if pair[0] not in names),
                ]
            await send(message)

        return sender

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", exchange.id.encode()), *self._security]

    def _finish(self, exchange: Exchange, scope: Scope) -> None:
        method, seconds = scope["method"], exchange.seconds
        if exchange.status in _FAILURES:
            # Raised, it says that the next request is one too many; this one has its answer.
            with suppress(RateLimited):
                self._services.limiter.spend_failure(exchange.client)
        known = method if method in _METHODS else "(other)"
        self._services.metrics.answered(exchange.route, known, exchange.status, seconds)
        self._services.log.write(exchange, known, seconds)
        if self._services.tracing is not None:
            self._services.tracing.record(exchange, headers_of(scope), known, seconds)
