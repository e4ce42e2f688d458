"""What scripts of other origins may do: CORS headers on every answer, refusals included.

A browser hides from a script the status and the body of an answer without these headers, also
where the answer says why the request was refused.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Scope

from bc_pipeline.errors import HeaderRefused
from bc_pipeline.serving.error_responses import complete, from_error
from bc_pipeline.serving.headers import Headers as RawHeaders
from bc_pipeline.settings import Settings

_METHODS = ("GET", "POST")
_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "Idempotency-Key",
    "Inference-Header-Content-Length",
    "traceparent",
    "tracestate",
)
_RESPONSE_HEADERS = (
    "X-Request-Id",
    "X-Model-Version",
    "X-Manifest-Sha256",
    "Retry-After",
    "Location",
    "Allow",
    "WWW-Authenticate",
    "Inference-Header-Content-Length",
)


class CrossOrigin:
    """CORS for the configured origins, by the rules of Starlette's middleware.

    As a middleware it would stand inside `ServiceMiddleware`, whose own answers got no headers, or
    around it, where neither limits nor the access log applied to preflights.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rules = CORSMiddleware(
            _no_application,
            allow_origins=settings.cors_origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
        )

    def preflight(self, scope: Scope) -> Response | None:
        """The answer to a preflight, which has no credentials; None for another request."""
        headers = Headers(scope=scope)
        if not (
            scope["method"] == "OPTIONS"
            and "origin" in headers
            and "access-control-request-method" in headers
        ):
            return None
        response = self._rules.preflight_response(headers)
        if response.status_code == HTTPStatus.OK:
            # Every response gets it from `headers_for`.
            del response.headers["access-control-allow-origin"]
            return response
        # 'Disallowed CORS ' and what is not allowed.
        reason = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        refused = HeaderRefused(
            f"Scripts of this origin may not send such a request: not allowed is its {reason}.",
            "BC_CORS_ORIGINS lists the origins whose scripts may use this service.",
            header="Origin",
        )
        return complete(from_error(refused), scope["path"], self._settings)

    def headers_for(self, request: RawHeaders) -> RawHeaders:
        """Headers that every response to a request with these headers has."""
        headers: RawHeaders = []
        origin = Headers(raw=request).get("origin")
        if origin is not None:
            simple = self._rules.simple_headers
            headers += [(name.lower().encode(), value.encode()) for name, value in simple.items()]
            if not self._rules.allow_all_origins and self._rules.is_allowed_origin(origin):
                headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
        return [*headers, (b"vary", b"Origin")]


async def _no_application(scope: Scope, receive: object, send: object) -> None:
    """Stands for the application that Starlette's class wraps: here it only makes headers."""
    raise AssertionError("the rules of CORS make headers here, and call no application")
