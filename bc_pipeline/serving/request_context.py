"""State of one request while it is answered."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.types import Scope

from bc_pipeline.auth.callers import Caller
from bc_pipeline.prediction_log.entry import new_id

_SCOPE_KEY = "bc_request_context"


class RequestContext:
    """One request and its answer, for the access log, metrics, traces and the prediction log.

    Attributes
    ----------
    client : str
        The client's address, as reported by trusted proxies where there are any.
    started : float
        `time.perf_counter` when the application received the request.
    caller : Caller or None
        Set once the credentials were accepted.
    model : str or None
        The version that answered.
    negotiated : bool
        Whether the response depends on the header ``Accept``.
    route : str
        Path template of the route, so that identifiers do not become labels; ``(other)``
        where no route matches.
    """

    __slots__ = ("caller", "client", "id", "model", "negotiated", "route", "started", "status")

    def __init__(self, client: str) -> None:
        self.id = new_id()
        self.client = client
        self.started = time.perf_counter()
        self.caller: Caller | None = None
        self.model: str | None = None
        self.negotiated = False
        self.route = "(other)"
        self.status = 0

    def attach(self, scope: Scope) -> None:
        """Store the context in the scope, where `context_of` finds it."""
        scope[_SCOPE_KEY] = self

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


def context_of(request: Request) -> RequestContext:
    context: RequestContext = request.scope[_SCOPE_KEY]
    return context
