"""The outermost layer of the application: what applies to every request."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bc_pipeline.errors import AddressRefused, KeyRefused, PipelineError, RateLimited
from bc_pipeline.serving import error_responses
from bc_pipeline.serving.cross_origin import CrossOrigin
from bc_pipeline.serving.direct_routes import DirectRoutes
from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.serving.responses import security_headers
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.readiness import PROBE_PATHS

# nginx's status for a client that closed the connection before the answer.
CLIENT_CLOSED_REQUEST = 499
_FAILURES = frozenset({401, 403, 404, 405})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServiceMiddleware:
    """ASGI middleware: allow-list, rate limits, metrics, access log, traces, response headers.

    An unknown path may contain anything, so it is not logged; nor are query strings, headers
    or bodies. An exception that nothing else handled becomes a response with status 500, and
    a log line with the class of the exception and the line that raised it.

    Parameters
    ----------
    app : callable
        Answers all other requests.
    direct : DirectRoutes
        Looked up first.
    cross_origin : CrossOrigin or None
        None where scripts of no other origin are allowed.
    """

    def __init__(
        self,
        app: ASGIApp,
        services: Services,
        direct: DirectRoutes,
        cross_origin: CrossOrigin | None,
    ) -> None:
        self._app = app
        self._services = services
        self._direct = direct
        self._cross_origin = cross_origin
        self._probes = PROBE_PATHS | {f"/v2/models/{services.settings.service_problem}/ready"}
        self._security = security_headers(services.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = scope["client"]
        client = self._services.addresses.client(peer[0] if peer else "", scope["headers"])
        context = RequestContext(client)
        context.attach(scope)
        send = self._with_headers(context, scope, send)
        self._services.metrics.in_flight += 1
        try:
            await self._answer(context, scope, receive, send)
        except ClientDisconnect:
            context.status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            await self._answer_error(context, error, scope, receive, send)
        finally:
            self._finish(context, scope)

    async def _answer(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        too_many_failures = self._check_address(context.client)
        preflight = self._cross_origin.preflight(scope) if self._cross_origin else None
        if preflight is not None:
            await preflight(scope, receive, send)
            return
        if too_many_failures is not None and not self._is_probe(scope):
            await self._require_credentials(scope, too_many_failures)
        if not await self._direct.answer(scope, receive, send):
            await self._app(scope, receive, send)

    async def _answer_error(
        self, context: RequestContext, error: Exception, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer an error, unless an answer was begun: then the connection is closed."""
        sent_status = context.status
        if isinstance(error, PipelineError) and not sent_status:
            response = await error_responses.handle_pipeline_error(Request(scope), error)
            await response(scope, receive, send)
            return
        error_responses.log_internal_error(context.id, error)
        context.status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        if not sent_status:
            response = await error_responses.handle_internal_error(Request(scope), error)
            await response(scope, receive, send)

    def _check_address(self, client: str) -> RateLimited | None:
        """Refuse an address or count its request; returns an error if it failed too often."""
        if not self._services.addresses.allowed(client):
            raise AddressRefused("This address may not use the service.")
        self._services.rate_limiter.count_address(client)
        try:
            self._services.rate_limiter.check_failures(client)
        except RateLimited as error:
            return error
        return None

    def _is_probe(self, scope: Scope) -> bool:
        return scope["path"] in self._probes and scope["method"] in ("GET", "HEAD")

    async def _require_credentials(self, scope: Scope, too_many_failures: RateLimited) -> None:
        """Admit only valid credentials from an address with too many failures.

        Others may share the address. Wrong credentials get the same answer as none.
        """
        try:
            await self._services.authenticator.identify(scope["headers"], scope["query_string"])
        except KeyRefused:
            raise too_many_failures from None

    def _with_headers(self, context: RequestContext, scope: Scope, send: Send) -> Send:
        """A `send` that adds the headers of every response, unless they are set already."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                headers = message["headers"]
                present = {name for name, _ in headers}
                added = [(b"x-request-id", context.id.encode()), *self._security]
                message["headers"] = [
                    *headers,
                    *(header for header in added if header[0] not in present),
                    *(((b"vary", b"Accept"),) if context.negotiated else ()),
                    *(
                        self._cross_origin.headers_for(scope["headers"])
                        if self._cross_origin
                        else ()
                    ),
                ]
            await send(message)

        return send_with_headers

    def _finish(self, context: RequestContext, scope: Scope) -> None:
        context.route = getattr(scope.get("route"), "path", context.route)
        if context.status in _FAILURES:
            # The error would refuse the next request; this one is answered already.
            with suppress(RateLimited):
                self._services.rate_limiter.count_failure(context.client)
        method = scope["method"]
        known_method = method if method in _METHODS else "(other)"
        self._services.finish_request(context, known_method, scope["headers"])
