"""What one request carries with it, from the outermost layer to the answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.types import Scope

from bc_pipeline.access.caller import Caller
from bc_pipeline.records.entry import new_id

if TYPE_CHECKING:
    from bc_pipeline.serving.services import Services

_KEY = "bc_exchange"


class Exchange:
    """One request and its answer, as logs, metrics and records see them.

    Attributes
    ----------
    client : str
        The client's address, proxies that are trusted looked through.
    started : float
        `time.perf_counter` at the first byte that the application saw.
    caller : Caller or None
        Set once the credentials were accepted.
    model : str or None
        The version that answered.
    route : str
        Template of the address, so that no identifier becomes a label; ``(other)`` for
        an address that the service does not have.
    """

    __slots__ = ("caller", "client", "id", "model", "route", "started", "status")

    def __init__(self, client: str) -> None:
        self.id = new_id()
        self.client = client
        self.started = time.perf_counter()
        self.caller: Caller | None = None
        self.model: str | None = None
        self.route = "(other)"
        self.status = 0

    def enter(self, scope: Scope) -> None:
        """Be found by `exchange_of`."""
        scope[_KEY] = self

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


def exchange_of(request: Request) -> Exchange:
    found: Exchange = request.scope[_KEY]
    return found


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def headers_of(scope: Scope) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = scope["headers"]
    return found


def first_header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Value of a header; None where it is missing."""
    for key, value in headers:
        if key == name:
            return value
    return None


def plain(value: Any) -> str:
    """Text of a header's bytes."""
    return bytes(value).decode("latin-1")
