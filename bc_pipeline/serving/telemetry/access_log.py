"""One JSON line for each request, written in small groups: the line must not cost the answer."""

from __future__ import annotations

import asyncio
import select
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from bc_pipeline.serving.exchange import Exchange

FLUSH_SECONDS = 0.1
_LINES_AT_ONCE = 256
# Asked every few seconds by machines: what they are told is news only where it is bad.
PROBES = frozenset(
    {"/livez", "/readyz", "/health", "/metrics", "/ping", "/v2/health/live", "/v2/health/ready"}
)
_FAILED = 400
_encoder = msgspec.json.Encoder()


class Line(msgspec.Struct, gc=False):
    """One line; its fields and their order are what readers of the log rely on.

    Attributes
    ----------
    path : str
        Template of the address.
    caller : str or None
        Name of the key or subject of the token.
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

    Nothing of a request's content is written, and of its address only the template.

    Parameters
    ----------
    enabled : bool
        False writes nothing: below the level that is logged.
    probes : bool
        Whether probes and scrapes are written that went well; failed ones always are.
    """

    def __init__(
        self, *, enabled: bool = True, probes: bool = False, stream: BinaryIO | None = None
    ) -> None:
        self._enabled = enabled
        self._quiet = frozenset() if probes else PROBES
        self._stream = stream
        self._lines: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._prefix = ""

    @classmethod
    def of(cls, level: str) -> AccessLog:
        """The log of a service that logs from `level` on."""
        return cls(enabled=level in ("DEBUG", "INFO"), probes=level == "DEBUG")

    def write(self, exchange: Exchange, method: str, seconds: float) -> None:
        """Note one request."""
        route, status = exchange.route, exchange.status
        if not self._enabled or (status < _FAILED and route in self._quiet):
            return
        caller = exchange.caller
        self._lines.append(
            Line(
                "request",
                exchange.id,
                method,
                route,
                int(status),
                round(seconds * 1000, 3),
                exchange.client,
                caller.name if caller is not None else None,
                exchange.model,
                "info",
                self._now(),
            )
        )
        if len(self._lines) >= _LINES_AT_ONCE:
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
        """Write what is there; a log that cannot be written costs no answer."""
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
    """Whole lines together, as many as a pipe takes at once.

    Workers share one pipe: what is longer could be mixed with another worker's lines.
    """
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if not end:
            end = data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
