"""A client that costs less than any server: bytes made beforehand, answers counted exactly.

Each of some connections sends a request, waits for the whole answer, and sends the next: a
closed loop. Every answer must have the status 200 and hold what it is expected to hold.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvloop

_OK = b"HTTP/1.1 200 "
_LENGTH = b"content-length: "
_END = b"\r\n\r\n"


class BadAnswer(Exception):
    """A server did not answer as it should."""


@dataclass(frozen=True)
class Load:
    """What a closed loop saw.

    Attributes
    ----------
    seconds : float
        From the first request to the last answer.
    client_cpu : float
        CPU seconds that the client took.
    milliseconds : array
        Of each answer.
    """

    seconds: float
    client_cpu: float
    milliseconds: np.ndarray

    @property
    def requests(self) -> int:
        return len(self.milliseconds)


def request(
    path: str, body: bytes, *, method: str = "POST", key: str = "", port: int = 80
) -> bytes:
    """Bytes of one request on a connection that is kept."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "User-Agent: bench",
        "Accept: application/json",
        "Content-Type: application/json",
        *([f"X-API-Key: {key}"] if key else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + _END + body


def load(
    port: int,
    requests: Sequence[bytes],
    expected: bytes,
    *,
    seconds: float = 0.0,
    number: int = 0,
    connections: int = 16,
) -> Load:
    """Ask for a time, or for a number of answers.

    Raises
    ------
    BadAnswer
        At the first answer that is not as it should be, or when the server closes.
    """

    async def run() -> Load:
        loop = asyncio.get_running_loop()
        run = _Run(itertools.cycle(requests), expected, number, loop.create_future())
        opened = [
            (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        cpu, run.began = time.process_time(), time.perf_counter()
        run.until = run.began + seconds if seconds else float("inf")
        run.busy = len(opened)
        for connection in opened:
            connection.ask()
        try:
            await run.done
        finally:
            for connection in opened:
                connection.close()
        ended = time.perf_counter()
        return Load(ended - run.began, time.process_time() - cpu, np.asarray(run.latencies) * 1e3)

    return uvloop.run(run())


@dataclass
class _Run:
    """What the connections of one run share."""

    requests: Iterator[bytes]
    expected: bytes
    # Answers to get; 0: until the time is over.
    number: int
    done: asyncio.Future[None]

    def __post_init__(self) -> None:
        self.latencies: list[float] = []
        self.began = 0.0
        self.until = 0.0
        self.busy = 0
        self.sent = 0


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._held = b""
        self._sent = 0.0
        self._resting = False

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self._resting:
            self._fail("the server closed a connection")

    def ask(self) -> None:
        run = self._run
        if (run.number and run.sent >= run.number) or time.perf_counter() >= run.until:
            self._rest()
            return
        run.sent += 1
        self._sent = time.perf_counter()
        self._transport.write(next(run.requests))

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        head = held.find(_END)
        length = held.find(_LENGTH, 0, head)
        if head < 0:
            self._held = held
            return
        if length < 0 or not held.startswith(_OK):
            self._fail(f"answered {held[:300]!r}")
            return
        stated = int(held[length + len(_LENGTH) : held.find(b"\r", length)])
        if len(held) < head + len(_END) + stated:
            self._held = held
            return
        self._held = b""
        run = self._run
        run.latencies.append(time.perf_counter() - self._sent)
        if held.find(run.expected, head) < 0 or len(held) > head + len(_END) + stated:
            self._fail(f"answered {held[head:]!r}")
            return
        self.ask()

    def close(self) -> None:
        self._resting = True
        self._transport.close()

    def _rest(self) -> None:
        self._resting = True
        self._run.busy -= 1
        if not self._run.busy and not self._run.done.done():
            self._run.done.set_result(None)

    def _fail(self, what: str) -> None:
        if not self._run.done.done():
            self._run.done.set_exception(BadAnswer(what))
