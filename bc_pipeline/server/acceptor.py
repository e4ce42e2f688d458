"""Accept connections from the socket that all workers share.

asyncio's own listener accepts whatever it is woken for, so the worker that happens to wake
first may get every connection of a few busy clients while the others idle; and it closes the
socket while connections still wait in its backlog, which resets them.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import ssl
from collections.abc import Callable, Sized

import structlog

# How long a worker that has more connections than another leaves a new one to it.
DEFER_SECONDS = 0.002
# Pause after a failed accept: descriptors or memory may become free in the meantime.
_RETRY_SECONDS = 0.1
# A failure is logged again only after so long without one.
_LOG_AGAIN_SECONDS = 10.0
_HANDSHAKE_SECONDS = 1.0
_COUNT_BYTES = 4
# Count of a worker that accepts no connections: it has not started yet, or is stopping.
_NOT_ACCEPTING = 2**31 - 1


class ConnectionCounts:
    """How many connections each worker has, in shared memory.

    Parameters
    ----------
    descriptor : int
        Memory file with a 32-bit number for each worker.
    worker : int
        Index of this worker's number, from 0.
    """

    def __init__(self, descriptor: int, worker: int, workers: int) -> None:
        self._memory = mmap.mmap(descriptor, workers * _COUNT_BYTES)
        self._counts = memoryview(self._memory).cast("i")
        self._worker = worker

    def publish(self, connections: int) -> bool:
        """Publish this worker's count; returns whether another worker has fewer."""
        self._counts[self._worker] = connections
        return connections > min(self._counts)

    def withdraw(self) -> None:
        """Stop other workers from leaving connections to this one."""
        self._counts[self._worker] = _NOT_ACCEPTING


class Acceptor:
    """Accepts connections from a listening socket and hands them to the event loop.

    Parameters
    ----------
    connections : sized
        The open connections.
    counts : ConnectionCounts or None
        None where no other worker accepts from the socket.
    tls_timeout : float
        Seconds that a TLS handshake, or a TLS shutdown, may take.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        *,
        counts: ConnectionCounts | None = None,
        tls: ssl.SSLContext | None = None,
        tls_timeout: float,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._connections = connections
        self._counts = counts
        self._tls = tls
        self._tls_timeout = tls_timeout if tls else None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._failed_at = -_LOG_AGAIN_SECONDS
        # Accepted connections whose TLS handshake may still be going on.
        self._connecting: set[asyncio.Task[None]] = set()

    def start(self, backlog: int) -> None:
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._on_readable)
        self.publish_count()

    def close(self) -> None:
        """Accept what waits in the backlog, then close the socket."""
        self._loop.remove_reader(self._listener)
        if self._counts is not None:
            self._counts.withdraw()
        while self._accept():
            continue
        # A failed accept sets a timer, which would use the closed socket.
        if self._timer is not None:
            self._timer.cancel()
        self._listener.close()

    async def wait_connected(self) -> None:
        """Wait for handshakes to end, except for slow ones."""
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=_HANDSHAKE_SECONDS)

    def publish_count(self) -> None:
        """Tell the other workers how many connections this one has; for a timer."""
        if self._counts is not None:
            self._counts.publish(self._count())

    def _count(self) -> int:
        return len(self._connections) + len(self._connecting)

    def _on_readable(self) -> None:
        if self._counts is not None and self._counts.publish(self._count()):
            # The other workers were woken too. If they are busy, this one accepts after all.
            self._pause(DEFER_SECONDS)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        while self._accept():
            continue
        # A failed accept has started another pause.
        if self._timer is None:
            self._loop.add_reader(self._listener, self._on_readable)

    def _accept(self) -> bool:
        """Accept one connection; False where none waits or it failed."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._pause(_RETRY_SECONDS)
            self._log_failure(error)
            return False
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

    def _log_failure(self, error: OSError) -> None:
        """Log one line for each outage: there are ten attempts a second."""
        now = self._loop.time()
        if now - self._failed_at >= _LOG_AGAIN_SECONDS:
            structlog.get_logger().error("accept_failed", reason=error.strerror)
        self._failed_at = now

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._tls_timeout,
                ssl_shutdown_timeout=self._tls_timeout,
            )
        except OSError:
            # The client disconnected, or the TLS handshake failed.
            connection.close()
