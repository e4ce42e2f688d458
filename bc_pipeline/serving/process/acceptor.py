"""Take connections from the socket that all workers share: evenly, and to the last one.

An event loop's own listener takes whatever it is woken for, so the worker that happens to
wake first may get every connection of a few busy clients while the others idle; and it closes
the socket while connections still wait in it, which are reset then.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import ssl
from collections.abc import Callable, Sized

import structlog

# How long a worker that has more connections than another leaves a new one to it.
YIELD_SECONDS = 0.002
# Where the system has no more descriptors or memory, some may become free.
_PAUSE_SECONDS = 0.1
# After so long without a failure it is over: the next one is told again.
_OVER_SECONDS = 10.0
_FINISH_SECONDS = 1.0
_COUNT_BYTES = 4
# Told for a worker that takes none: it has not started yet, or is about to end.
_ENDED = 2**31 - 1


class Shares:
    """How many connections each worker has, in memory that all of them share.

    Parameters
    ----------
    descriptor : int
        Of a file in memory with a 32-bit number for each worker.
    worker : int
        Whose share this process tells, from 0.
    """

    def __init__(self, descriptor: int, worker: int, workers: int) -> None:
        self._memory = mmap.mmap(descriptor, workers * _COUNT_BYTES)
        self._counts = memoryview(self._memory).cast("i")
        self._worker = worker

    def is_ahead(self, connections: int) -> bool:
        """Tell the others our share; returns whether one of them has fewer."""
        self._counts[self._worker] = connections
        return connections > min(self._counts)

    def end(self) -> None:
        """Leave no connection to this worker any more."""
        self._counts[self._worker] = _ENDED


class Acceptor:
    """Hands the connections of a listening socket to the event loop.

    Parameters
    ----------
    connections : sized
        Those that are open.
    shares : Shares or None
        None where no other worker takes from the socket.
    patience : float
        Seconds that a TLS handshake, or the end of one, may take.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        *,
        shares: Shares | None = None,
        tls: ssl.SSLContext | None = None,
        patience: float,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._connections = connections
        self._shares = shares
        self._tls = tls
        self._patience = patience if tls else None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._failed_at = -_OVER_SECONDS
        # Being made: handshakes may take a while.
        self._coming: set[asyncio.Task[None]] = set()

    def start(self, backlog: int) -> None:
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._readable)
        self.tell_share()

    def close(self) -> None:
        """Take what waits, and nothing more."""
        self._loop.remove_reader(self._listener)
        if self._shares is not None:
            self._shares.end()
        while self._take():
            continue
        # Taking may have failed and set it.
        if self._timer is not None:
            self._timer.cancel()
        self._listener.close()

    async def finish(self) -> None:
        """Wait for the connections that are being made, but for no slow handshake."""
        if self._coming:
            await asyncio.wait(self._coming, timeout=_FINISH_SECONDS)

    def tell_share(self) -> None:
        """Keep what the others know of our share up to date, from time to time."""
        if self._shares is not None:
            self._shares.is_ahead(self._size())

    def _size(self) -> int:
        return len(self._connections) + len(self._coming)

    def _readable(self) -> None:
        if self._shares is not None and self._shares.is_ahead(self._size()):
            # The others were woken too. Should they be busy, we take it after all.
            self._pause(YIELD_SECONDS)
        else:
            self._take()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        while self._take():
            continue
        # Where taking failed there is another pause already.
        if self._timer is None:
            self._loop.add_reader(self._listener, self._readable)

    def _take(self) -> bool:
        """Take one connection; False where none waits."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._pause(_PAUSE_SECONDS)
            self._report(error)
            return False
        task = self._loop.create_task(self._connect(connection))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)
        return True

    def _report(self, error: OSError) -> None:
        """Once for each outage: there are ten tries a second."""
        now = self._loop.time()
        if now - self._failed_at >= _OVER_SECONDS:
            structlog.get_logger().error("connection_not_taken", reason=error.strerror)
        self._failed_at = now

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._patience,
                ssl_shutdown_timeout=self._patience,
            )
        except OSError:
            # The client went away, or does not speak TLS as we do: its affair.
            connection.close()
