"""uvicorn's HTTP protocol with limits on what a client may send and how slowly.

uvicorn sets none: headers may grow without end, a body may arrive at one byte a minute, an
answer may never be read, and a body that goes on after a 413 is read to its last byte. A timer
calls `check_timeout` for each connection about once a second; it compares the connection's
state with the last one, so that requests themselves pay for a few additions only.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bc_pipeline.errors import BodyTooSlow
from bc_pipeline.server.application import ErrorRenderer, Headers
from bc_pipeline.server.ignored_upgrade import IgnoredUpgrade
from bc_pipeline.server.logs import log_unexpected_error
from bc_pipeline.server.request_head import HeadRefused, check_head, of_parser_error, origin_form

# Limit of a request's line, headers, chunk sizes and trailers together.
HEADER_LIMIT = 32 * 1024
# Data is parsed in blocks, so that the limit does not depend on how it arrives.
_BLOCK_BYTES = 16 * 1024
# A body or an answer that moved by so much within the time limit is not timed out.
PROGRESS_BYTES = 64 * 1024
# How much, and for how long, of a body is read and discarded after its request was answered,
# so that the client sees the answer instead of a reset.
DISCARD_BYTES = 1024 * 1024
DISCARD_SECONDS = 1.0
# How long idle connections stay open at shutdown: a request may be under way.
SHUTDOWN_IDLE_SECONDS = 0.3
# Phases in which no client waits for an answer; see `HttpProtocol._pending`.
_WITHOUT_REQUEST = ("idle", "headers", "rejected")


class _TimedOutBody(bytearray):
    """Replaces a body that did not arrive; reading it raises in the application."""

    def __bytes__(self) -> bytes:
        raise BodyTooSlow("The body did not arrive in time.", "Send it without a pause.")


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    Parameters
    ----------
    render_error : callable
        Renders the response to a request that cannot reach the application.
    """

    def __init__(self, render_error: ErrorRenderer, **options: Any) -> None:
        super().__init__(**options)
        self._render_error = render_error
        self._shutting_down = False
        # The last answer was sent: further data is discarded.
        self._rejected = False
        self._body_bytes = 0
        self._framing_bytes = 0
        # Content-Length of the request whose head was checked last.
        self._declared_bytes = 0
        self._resumptions = 0
        # State at the last `check_timeout`: the result of `_pending`, and since when.
        self._phase = ""
        self._phase_of: object = None
        self._progress = 0
        self._phase_since = 0.0

    # Receiving --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if len(data) <= _BLOCK_BYTES:
            self._receive(data)
            return
        for start in range(0, len(data), _BLOCK_BYTES):
            if self.transport.is_closing():
                return
            self._receive(data[start : start + _BLOCK_BYTES])

    def _receive(self, data: bytes) -> None:
        if self._rejected:
            self._discard(len(data))
            return
        body_bytes = self._body_bytes
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            self._on_callback_error(error.__context__ or error)
            return
        except httptools.HttpParserError as error:
            self._refuse(of_parser_error(str(error)))
            return
        if self._body_bytes == body_bytes:
            self._framing_bytes += len(data)
            if self._framing_bytes > HEADER_LIMIT:
                self._reject_large_head()

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                ignored = IgnoredUpgrade(self)
                self.parser = ignored.parser
                ignored.replay_head(self.scope["headers"])
            else:
                return

    def _on_callback_error(self, error: BaseException) -> None:
        """Answer what a callback raised: a refusal, or an error of the server itself."""
        if isinstance(error, HeadRefused):
            self._refuse(error)
        elif isinstance(error, httptools.HttpParserError):
            # Raised by `httptools.parse_url`.
            self._refuse(of_parser_error(str(error)))
        else:
            log_unexpected_error(error)
            self._reject(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "The request could not be answered; the service's log says why.",
            )

    def on_headers_complete(self) -> None:
        self._check_head()
        self._begin_request()

    def _check_head(self) -> None:
        """Refuse a head that is not certainly read alike by everyone.

        Raises
        ------
        HeadRefused
        """
        self._declared_bytes = check_head(self.headers, self.parser.get_http_version())
        if not self.url.startswith(b"/"):
            self.url = origin_form(self.url, self.parser.get_method())

    def _begin_request(self) -> None:
        """Hand the request, whose head is complete, to uvicorn."""
        super().on_headers_complete()
        self._framing_bytes = 0
        # Trailers of a chunked body must not pass for headers, which a proxy has checked.
        self.headers = []
        if self._shutting_down:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            if self._body_bytes > DISCARD_BYTES:
                self.transport.abort()
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            # The body follows: the upgrade is ignored.
            return
        cycle = self.cycle
        cycle.more_body = False
        if not cycle.response_complete:
            cycle.message_event.set()

    def _refuse(self, refusal: HeadRefused) -> None:
        self._reject(refusal.status, refusal.detail)

    def _reject_large_head(self) -> None:
        if len(self.url) > HEADER_LIMIT // 2:
            self._reject(HTTPStatus.REQUEST_URI_TOO_LONG, "The address of the request is too long.")
        else:
            self._reject(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The headers of a request may hold {HEADER_LIMIT} bytes.",
            )

    def _reject(self, status: HTTPStatus, detail: str) -> None:
        """Answer a request that cannot reach the application, and close the connection."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # A valid request came before this one: its answer is the last.
                cycle.keep_alive = False
                self._rejected = True
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
        self._rejected = True
        self._body_bytes = 0
        # The list to which the parser has added; `self.headers` is another one after the head.
        request = list(self.scope["headers"]) if self.scope is not None else []
        self.transport.write(_serialize(status, *self._render_error(status, detail, request)))
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _discard(self, size: int) -> None:
        self._body_bytes += size
        if self._body_bytes > DISCARD_BYTES:
            self.transport.abort()

    # Answering --------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """uvicorn's, without its timer for each request: `check_timeout` closes idle ones."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.cycle.more_body:
            self._body_bytes = 0
            if self.expect_100_continue:
                # The next data may be the body or, after the answer, another request.
                self.transport.close()

    def resume_writing(self) -> None:
        self._resumptions += 1
        super().resume_writing()

    def shutdown(self) -> None:
        """Close the connection after a request that is under way, or a short wait for one."""
        self._shutting_down = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(SHUTDOWN_IDLE_SECONDS, self._close_idle)
        else:
            super().shutdown()

    def _close_idle(self) -> None:
        if not self.transport.is_closing() and self._pending()[0] in _WITHOUT_REQUEST:
            self.transport.close()

    # Timeouts ---------------------------------------------------------------------------

    def check_timeout(self, now: float, limit: float) -> None:
        """Close the connection if the server has waited for its client for too long.

        Parameters
        ----------
        now : float
            The event loop's time.
        limit : float
            Seconds that a client may take to send a request, or to read an answer.
        """
        phase, phase_of, progress = self._pending()
        moved = abs(progress - self._progress) >= PROGRESS_BYTES
        if phase != self._phase or phase_of is not self._phase_of or moved:
            self._phase, self._phase_of, self._progress = phase, phase_of, progress
            self._phase_since = now
            return
        waited = now - self._phase_since
        if phase in ("unread", "rejected"):
            if waited >= min(DISCARD_SECONDS, limit):
                self.transport.abort()
        elif phase and waited >= limit:
            if phase == "body":
                self._time_out_body()
            elif phase in ("idle", "headers"):
                self.transport.close()
            else:
                self.transport.abort()

    def _time_out_body(self) -> None:
        self.cycle.body = _TimedOutBody()
        self.cycle.message_event.set()

    def _pending(self) -> tuple[str, object, int]:
        """The next action that is expected of the client.

        Returns
        -------
        str
            The phase; empty where the client has nothing to do.
        object
            The request or response that the phase belongs to.
        int
            Bytes that have moved in this phase.
        """
        transport, cycle = self.transport, self.cycle
        unsent = transport.get_write_buffer_size()
        if unsent:
            # Each resumption means that most of a full buffer was read.
            written = self._resumptions * HIGH_WATER_LIMIT
            return "answer", cycle, written - unsent - _unacknowledged_bytes(transport)
        if transport.is_closing():
            return "closing", None, 0
        if self._rejected:
            return "rejected", None, 0
        if cycle is not None and cycle.more_body:
            if cycle.response_complete:
                return "unread", cycle, 0
            if self.flow.read_paused or isinstance(cycle.body, _TimedOutBody):
                return "", None, 0
            return "body", self.scope, self._body_bytes
        if cycle is not None and not cycle.response_complete:
            return "", None, 0
        if self.scope is not None and "method" not in self.scope:
            return "headers", self.scope, 0
        return "idle", self.scope, 0


def _unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Size of the socket's send queue, which often holds megabytes."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _serialize(status: HTTPStatus, headers: Headers, body: bytes) -> bytes:
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
    return b"%s%sconnection: close\r\n\r\n%s" % (STATUS_LINE[status], lines, body)
