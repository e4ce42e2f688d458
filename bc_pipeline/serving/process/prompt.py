"""Requests that are answered while their bytes are read, where the short way takes them.

uvicorn makes a task, an event and a coroutine or two for each request as soon as it has read
the head. For a prediction that is half of the work. Here such a request is held until its
body is there too; then it is answered on the spot, or begun as every other.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from bc_pipeline.serving.bodies.reading import Headers
from bc_pipeline.serving.process.outbox import Outbox
from bc_pipeline.serving.process.protocol import Protocol
from bc_pipeline.serving.short_way import BODY_LIMIT, PREDICT_PATHS, ShortWay

_PATHS = {path.encode(): path for path in PREDICT_PATHS}
_STATUS = STATUS_LINE[200]


class PromptProtocol(Protocol):
    """One connection.

    Parameters
    ----------
    outbox : Outbox
        Of all connections of an event loop.
    """

    def __init__(self, short_way: ShortWay, outbox: Outbox, **named: Any) -> None:
        super().__init__(**named)
        self._short_way = short_way
        self._outbox = outbox
        # What is there of the body of a request that is held; None: none is.
        self._held: bytes | None = None
        self._head: Headers = []

    def on_headers_complete(self) -> None:
        if not self._may_hold():
            super().on_headers_complete()
            return
        self._held = b""
        self._framing = 0
        self.scope["method"] = "POST"
        # As for every request: trailers must not pass for headers.
        self._head, self.headers = self.headers, []

    def _may_hold(self) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            self.url in _PATHS
            and parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
        )

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
            return
        self._received += len(body)
        self._held += body
        if len(self._held) > BODY_LIMIT:
            self._begin()

    def on_message_complete(self) -> None:
        if self._held is not None:
            if self._answer(self._held):
                self._held = None
                return
            self._begin()
        super().on_message_complete()

    def _answer(self, body: bytes) -> bool:
        if self._parting or self.flow.write_paused:
            return False
        answer = self._short_way.answer(
            _PATHS[self.url], self._head, self.client[0] if self.client else "", body
        )
        if answer is None:
            return False
        self.server_state.total_requests += 1
        given = [b"%s: %s\r\n" % pair for pair in self.server_state.default_headers]
        self._outbox.put(self.transport, b"".join((_STATUS, *given, answer)))
        return True

    def _begin(self) -> None:
        """Let uvicorn have the request after all, with what is there of its body."""
        held, self._held = self._held, None
        super().on_headers_complete()
        if held:
            self.cycle.body += held
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._held is not None:
            # It is told as every other whose client went away.
            self._begin()
        super().connection_lost(exc)

    def _refuse(self, response: Response) -> None:
        self._held = None
        self._outbox.flush()
        super()._refuse(response)

    def _end_body(self) -> None:
        if self._held is not None:
            self._begin()
        super()._end_body()

    def _wait_of(self) -> tuple[str, object, int]:
        self._outbox.flush()
        if self._held is not None and not self.transport.get_write_buffer_size():
            return "body", self.scope, self._received
        return super()._wait_of()
