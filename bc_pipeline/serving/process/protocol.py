"""uvicorn's HTTP protocol, hardened: slow clients, endless headers, bodies that nobody reads.

uvicorn bounds none of these: headers may grow without end, a body may come one byte a minute,
an answer may never be read, and what a client goes on sending after a 413 is read to the last
byte. A `sweep` about once a second finds such connections by comparing what it sees with what
it saw before, so that a request itself pays for a few additions only.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from http import HTTPStatus
from typing import Any

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from bc_pipeline.errors import BodyTooSlow, RequestRefused
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.process.upgrades import Continued

# What a request may spend on its line, headers, chunk sizes and trailers.
HEADER_LIMIT = 32 * 1024
# So that the limit does not depend on how the bytes happen to arrive.
_PIECE = 16 * 1024
# A body or an answer of which so much moved within the time allowed is slow, but moves.
STEADY_BYTES = 64 * 1024
# What is read of a body after its request was answered, so that the client sees the answer
# instead of a reset, and for how long.
UNREAD_BYTES = 1024 * 1024
UNREAD_SECONDS = 1.0
# How long an idle connection is kept when the service ends: a request may be on its way.
PARTING_SECONDS = 0.3
# Nobody waits for an answer: phases of `_wait_of`.
_UNASKED = ("idle", "headers", "refused")


class _LateBody(bytearray):
    """In place of a body that does not come: reading it raises, where the application waits."""

    def __bytes__(self) -> bytes:
        raise BodyTooSlow("The body did not arrive in time.", "Send it without a pause.")


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._parting = False
        # Answered for good: what else comes is thrown away.
        self._refused = False
        self._received = 0
        self._framing = 0
        self._resumed = 0
        # What the sweep saw: the phase, the object it is about, progress, and since when.
        self._phase = ""
        self._about: object = None
        self._progress = 0
        self._since = 0.0

    # Bytes that arrive ------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE:
            self._feed(data)
            return
        for start in range(0, len(data), _PIECE):
            if self.transport.is_closing():
                return
            self._feed(data[start : start + _PIECE])

    def _feed(self, data: bytes) -> None:
        if self._refused:
            self._throw_away(len(data))
            return
        received = self._received
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self._received == received:
            self._framing += len(data)
            if self._framing > HEADER_LIMIT:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self._refuse(
                    problem_details.problem_response(
                        status,
                        problem_details.router_code(status),
                        status.phrase,
                        f"The headers of a request may hold {HEADER_LIMIT} bytes.",
                    )
                )

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                continued = Continued(self)
                self.parser = continued.parser
                continued.read_head(self.scope["headers"])
            else:
                return

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._framing = 0
        # Trailers of a chunked body must not pass for headers, which a proxy has checked.
        self.headers = []
        if self._parting:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            if self._received > UNREAD_BYTES:
                self.transport.abort()
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            # Its body is still to come.
            return
        cycle = self.cycle
        cycle.more_body = False
        if not cycle.response_complete:
            cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are no HTTP."""
        error = RequestRefused("The request is not valid HTTP/1.1.")
        self._refuse(problem_details.from_error(error))

    def _refuse(self, response: Response) -> None:
        """Answer what is no request for the application, and end the connection."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # A sound request came before this one: it has its answer first.
                cycle.keep_alive = False
                self._refused = True
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
        self._refused = True
        self._received = 0
        self.transport.write(_on_the_wire(response))
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _throw_away(self, size: int) -> None:
        self._received += size
        if self._received > UNREAD_BYTES:
            self.transport.abort()

    # Answers ----------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Without uvicorn's timer for each request: the sweep ends idle connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.cycle.more_body:
            self._received = 0
            if self.expect_100_continue:
                # The next bytes may be the body or, as it was answered, another request.
                self.transport.close()

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def shutdown(self) -> None:
        """Let a request that is on its way to an idle connection arrive, and be the last."""
        self._parting = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(PARTING_SECONDS, self._part)
        else:
            super().shutdown()

    def _part(self) -> None:
        if not self.transport.is_closing() and self._wait_of()[0] in _UNASKED:
            self.transport.close()

    # Slowness ---------------------------------------------------------------------------

    def sweep(self, now: float, limit: float) -> None:
        """End the connection where its client has kept us waiting for too long.

        Parameters
        ----------
        now : float
            The event loop's time.
        limit : float
            Seconds that a client may take to send a request, or to read an answer.
        """
        phase, about, progress = self._wait_of()
        moved = abs(progress - self._progress) >= STEADY_BYTES
        if phase != self._phase or about is not self._about or moved:
            self._phase, self._about, self._progress = phase, about, progress
            self._since = now
            return
        waited = now - self._since
        if phase in ("unread", "refused"):
            if waited >= min(UNREAD_SECONDS, limit):
                self.transport.abort()
        elif phase and waited >= limit:
            if phase == "body":
                self._end_body()
            elif phase in ("idle", "headers"):
                self.transport.close()
            else:
                self.transport.abort()

    def _end_body(self) -> None:
        self.cycle.body = _LateBody()
        self.cycle.message_event.set()

    def _wait_of(self) -> tuple[str, object, int]:
        """What is waited for from the client: phase, what it is about, and how far it is."""
        transport, cycle = self.transport, self.cycle
        unsent = transport.get_write_buffer_size()
        if unsent:
            # Each resumption means that most of a full buffer was read.
            moved = self._resumed * HIGH_WATER_LIMIT
            return "answer", cycle, moved - unsent - _unacknowledged(transport)
        if transport.is_closing():
            return "closing", None, 0
        if self._refused:
            return "refused", None, 0
        if cycle is not None and cycle.more_body:
            if cycle.response_complete:
                return "unread", cycle, 0
            if self.flow.read_paused or isinstance(cycle.body, _LateBody):
                return "", None, 0
            return "body", self.scope, self._received
        if cycle is not None and not cycle.response_complete:
            return "", None, 0
        if self.scope is not None and "method" not in self.scope:
            return "headers", self.scope, 0
        return "idle", self.scope, 0


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the system has taken from us and the client's has not: often megabytes."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _on_the_wire(response: Response) -> bytes:
    headers = b"".join(b"%s: %s\r\n" % pair for pair in response.raw_headers)
    head = STATUS_LINE[response.status_code] + headers + b"connection: close\r\n\r\n"
    return head + bytes(response.body)
