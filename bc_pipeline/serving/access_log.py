"""One JSON line for each request, written in small groups: the line must not cost the answer."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from bc_pipeline.serving.exchange import Exchange

FLUSH_SECONDS = 0.1
_LINES_AT_ONCE = 256
_encoder = msgspec.json.Encoder()


class AccessLog:
    """Writes to standard error, after at most a tenth of a second.

    Nothing of a request's content is written, and of its address only the template.

    Parameters
    ----------
    enabled : bool
        False writes nothing: below the level that is logged.
    """

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._enabled = enabled
        self._stream = stream
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, exchange: Exchange, method: str, seconds: float) -> None:
        """Note one request."""
        if not self._enabled:
            return
        line = {
            "event": "request",
            "request": exchange.id,
            "method": method,
            "path": exchange.route,
            "status": int(exchange.status),
            "ms": round(seconds * 1000, 3),
            "client": exchange.client,
            "caller": exchange.caller.name if exchange.caller else None,
            "model": exchange.model,
            "level": "info",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        self._lines.append(_encoder.encode(line))
        if len(self._lines) >= _LINES_AT_ONCE:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            lines, self._lines = self._lines, []
            stream = self._stream or sys.stderr
            stream.write(b"\n".join(lines).decode() + "\n")
            stream.flush()
