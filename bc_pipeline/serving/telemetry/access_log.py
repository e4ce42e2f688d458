"""The access log: one JSON line per request, written in groups so that it delays no answer."""

from __future__ import annotations

import asyncio
import select
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.serving.telemetry.readiness import PROBE_PATHS

FLUSH_SECONDS = 0.1
_MOST_WAITING = 256
# Requested by machines every few seconds, and logged only when they fail.
QUIET_ROUTES = PROBE_PATHS | {"/metrics"}
_FAILED = 400
_encoder = msgspec.json.Encoder()


class AccessLogLine(msgspec.Struct, gc=False):
    """One line; readers of the log rely on its fields and their order.

    Attributes
    ----------
    path : str
        Path template of the route.
    caller : str or None
        Name of the API key, or subject of the token.
    model : str or None
        The version that answered.
    """

    event: str
    request: str
    method: str
    path: str
    status: int
    ms: float
    client: str
    caller: str | None
    model: str | None
    level: str
    timestamp: str


class AccessLog:
    """Writes to standard error, after at most a tenth of a second.

    Nothing of a request's content is written, and of its URL only the path template.

    Parameters
    ----------
    level : str
        The service's log level: from WARNING on nothing is written, and only with DEBUG
        successful probes and scrapes; failed ones always are.
    """

    def __init__(self, level: str = "INFO", *, stream: BinaryIO | None = None) -> None:
        self._enabled = level in ("DEBUG", "INFO")
        self._quiet = frozenset() if level == "DEBUG" else QUIET_ROUTES
        self._stream = stream
        self._lines: list[AccessLogLine] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._prefix = ""

    def write(self, context: RequestContext, method: str, seconds: float) -> None:
        """Add the line of one request."""
        route, status = context.route, context.status
        if not self._enabled or (status < _FAILED and route in self._quiet):
            return
        caller = context.caller
        self._lines.append(
            AccessLogLine(
                "request",
                context.id,
                method,
                route,
                int(status),
                round(seconds * 1000, 3),
                context.client,
                caller.name if caller is not None else None,
                context.model,
                "info",
                self._now(),
            )
        )
        if len(self._lines) >= _MOST_WAITING:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1e6):06d}Z"

    def flush(self) -> None:
        """Write the waiting lines; one that cannot be written is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        stream = self._stream or sys.stderr.buffer
        try:
            for group in _groups(_encoder.encode_lines(lines)):
                stream.write(group)
                stream.flush()
        except OSError:
            return


def _groups(data: bytes) -> Iterator[bytes]:
    """Split at line ends into groups of at most ``PIPE_BUF`` bytes.

    Workers share one pipe, and longer writes could be interleaved with those of others.
    """
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if not end:
            end = data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
