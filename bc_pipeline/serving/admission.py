"""Who is asking, may they, and not too often: the same for every way in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, get_args

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope as AsgiScope

from bc_pipeline.access.scopes import Scope
from bc_pipeline.errors import ConfigError
from bc_pipeline.serving.exchange import Exchange, exchange_of, headers_of, services_of
from bc_pipeline.serving.services import Services

SCOPE = "x-required-scope"
Required = Scope | Literal["public"]
_KNOWN = frozenset((*get_args(Scope), "public"))


async def admit(services: Services, scope: AsgiScope, exchange: Exchange, required: Scope) -> None:
    """Let a caller in, or raise.

    Raises
    ------
    KeyRefused, ScopeMissing, RateLimited
    """
    headers, query = headers_of(scope), scope["query_string"]
    caller = services.guard.admit(headers, query, required)
    if caller is None:
        # A token of an issuer's key that is not at hand yet.
        caller = await services.guard.admit_token(headers, query, required)
    exchange.caller = caller
    services.limiter.spend_key(caller.key_id)


def needs(scope: Required) -> dict[str, Any]:
    """What a route declares in ``openapi_extra``: the scope that its callers need."""
    extra: dict[str, Any] = {SCOPE: scope}
    if scope != "public":
        extra["security"] = [{"ApiKey": []}, {"Bearer": []}]
    return extra


class ScopedRoute(APIRoute):
    """A route that lets nobody in before it has checked the scope that it declares."""

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
            # The server sends the head of the answer alone.
            self.methods.add("HEAD")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        required = self.required
        if required == "public":
            return handler

        async def scoped(request: Request) -> Response:
            await admit(services_of(request), request.scope, exchange_of(request), required)
            return await handler(request)

        return scoped
