"""Routes that authenticate callers, check their scope, and limit their rate."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, get_args

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from bc_pipeline.auth.callers import Scope
from bc_pipeline.errors import ConfigError
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.request_parsing.body_stream import require_possible_size
from bc_pipeline.serving.services import services_of

SCOPE = "x-required-scope"
Required = Scope | Literal["public"]
_KNOWN = frozenset((*get_args(Scope), "public"))


def needs(scope: Required) -> dict[str, Any]:
    """The ``openapi_extra`` of a route whose callers need a scope."""
    extra: dict[str, Any] = {SCOPE: scope}
    if scope != "public":
        extra["security"] = [{"ApiKey": [scope]}, {"Bearer": [scope]}]
    return extra


class ScopedRoute(APIRoute):
    """A route that checks the caller's scope before it handles a request."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        declared: Any = (options.get("openapi_extra") or {}).get(SCOPE)
        if declared not in _KNOWN:
            raise ConfigError(
                f"The route {path} declares no scope.",
                f"Give it openapi_extra=needs(...) with one of {', '.join(sorted(_KNOWN))}.",
            )
        self.required: Required = declared
        super().__init__(path, endpoint, **options)
        if "GET" in self.methods:
            # The server omits the body of the response.
            self.methods.add("HEAD")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            await self._check(request)
            return await handler(request)

        return checked

    async def answer(self, request: Request, **parameters: str) -> Response:
        """Call the endpoint without the framework, which validates no parameter then."""
        await self._check(request)
        response: Response = await self.endpoint(request, **parameters)
        return response

    async def _check(self, request: Request) -> None:
        """Check size, credentials, scope and rate of a request before its body is read."""
        services = services_of(request)
        require_possible_size(request, services.settings.upload_limit)
        if self.required == "public":
            return
        caller = await services.authenticator.authorize(
            request.headers.raw, request.scope["query_string"], self.required
        )
        context_of(request).caller = caller
        services.rate_limiter.count_key(caller.key_id)
