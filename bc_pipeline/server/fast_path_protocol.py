"""HTTP requests that the fast path answers as soon as their last byte is parsed.

uvicorn creates a task, an event and coroutines for each request once its headers are
parsed, which is half of the work of a prediction. This protocol buffers a request that the
fast path may answer until its body is complete, and asks the fast path; a request that it does
not answer is passed to uvicorn.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from bc_pipeline.server.application import FastPath, Headers
from bc_pipeline.server.http_protocol import HttpProtocol
from bc_pipeline.server.write_batcher import WriteBatcher

_STATUS_LINE = STATUS_LINE[200]


class FastPathProtocol(HttpProtocol):
    """One connection.

    Parameters
    ----------
    write_batcher : WriteBatcher
        Shared by all connections of an event loop.
    """

    def __init__(self, fast_path: FastPath, write_batcher: WriteBatcher, **options: Any) -> None:
        super().__init__(**options)
        self._fast_path = fast_path
        self._paths = fast_path.paths
        self._body_limit = fast_path.body_limit
        self._write_batcher = write_batcher
        # Body so far of the buffered request; None while no request is buffered.
        self._buffered: bytes | None = None
        self._buffered_headers: Headers = []

    def on_headers_complete(self) -> None:
        self._check_head()
        if not self._may_buffer():
            self._begin_request()
            return
        self._buffered = b""
        self._framing_bytes = 0
        self.scope["method"] = "POST"
        # A new list, as in the base class: trailers must not pass for headers.
        self._buffered_headers, self.headers = self.headers, []

    def _may_buffer(self) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            self.url in self._paths
            and self._declared_bytes <= self._body_limit
            and parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
        )

    def on_body(self, body: bytes) -> None:
        if self._buffered is None:
            super().on_body(body)
            return
        self._body_bytes += len(body)
        self._buffered += body
        if len(self._buffered) > self._body_limit:
            self._pass_to_uvicorn()

    def on_message_complete(self) -> None:
        if self._buffered is not None:
            if self._answer(self._buffered):
                self._buffered = None
                return
            self._pass_to_uvicorn()
        super().on_message_complete()

    def _answer(self, body: bytes) -> bool:
        if self._shutting_down or self.flow.write_paused:
            return False
        answer = self._fast_path.answer(
            self._paths[self.url],
            self._buffered_headers,
            self.client[0] if self.client else "",
            body,
        )
        if answer is None:
            return False
        self.server_state.total_requests += 1
        headers = [b"%s: %s\r\n" % pair for pair in self.server_state.default_headers]
        self._write_batcher.put(self.transport, b"".join((_STATUS_LINE, *headers, answer)))
        return True

    def _pass_to_uvicorn(self) -> None:
        """Begin the buffered request in the base class, with its body so far."""
        body, self._buffered = self._buffered, None
        self._begin_request()
        if body:
            self.cycle.body += body
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._buffered is not None:
            # The application counts and logs it as a request whose client disconnected.
            self._pass_to_uvicorn()
        super().connection_lost(exc)

    def _reject(self, status: HTTPStatus, detail: str) -> None:
        self._buffered = None
        self._write_batcher.flush()
        super()._reject(status, detail)

    def _time_out_body(self) -> None:
        if self._buffered is not None:
            self._pass_to_uvicorn()
        super()._time_out_body()

    def _pending(self) -> tuple[str, object, int]:
        self._write_batcher.flush()
        if self._buffered is not None and not self.transport.get_write_buffer_size():
            return "body", self.scope, self._body_bytes
        return super()._pending()
