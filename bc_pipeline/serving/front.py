"""The outermost layer of the application: what holds for every request."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bc_pipeline.errors import AddressRefused, KeyRefused, PipelineError, RateLimited
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.answers import security_headers
from bc_pipeline.serving.exchange import Exchange, headers_of
from bc_pipeline.serving.services import Services

# nginx's number for a client that went away before the answer.
CLIENT_GONE = 499
# Whoever asks here decides whether the service is restarted or gets requests.
_PROBES = frozenset(
    {"/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"}
)
_FAILURES = frozenset({401, 403, 404, 405})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Front:
    """ASGI middleware around the whole application.

    An address that the service does not have may hold anything, so it is not logged; nor
    are query strings, headers or bodies. An error that nothing else handled becomes a
    problem with status 500 and a log line with the class of the error and its place.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._probes = _PROBES | {f"/v2/models/{services.settings.service_problem}/ready"}
        self._security = security_headers(services.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = scope["client"]
        client = self._services.addresses.client(peer[0] if peer else "", headers_of(scope))
        exchange = Exchange(client)
        exchange.enter(scope)
        self._services.metrics.in_flight += 1
        try:
            full = self._room(client)
            if full is not None and not self._is_probe(scope):
                await self._require_accepted(scope, full)
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
        if exchange.status in _FAILURES:
            # Raised, it says that the next request is one too many; this one has its answer.
            with suppress(RateLimited):
                self._services.limiter.spend_failure(exchange.client)
        method = scope["method"]
        known = method if method in _METHODS else "(other)"
        self._services.finish(exchange, known, headers_of(scope))
