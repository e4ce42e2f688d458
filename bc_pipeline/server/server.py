"""uvicorn's server with our acceptor and HTTP protocol, renewable TLS and a graceful shutdown."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from bc_pipeline.background_loop import BackgroundLoop
from bc_pipeline.server.acceptor import Acceptor, ConnectionCounts
from bc_pipeline.server.application import Application
from bc_pipeline.server.fast_path_protocol import FastPathProtocol
from bc_pipeline.server.http_protocol import HttpProtocol
from bc_pipeline.server.tls import Certificates
from bc_pipeline.server.write_batcher import WriteBatcher
from bc_pipeline.settings import Settings

DRAIN_SECONDS = 10
_EXIT_STARTUP = 3
_LONGEST_INTERVAL = 1.0
_BACKLOG = 2048


class Server(uvicorn.Server):
    """Serves one application on a bound socket.

    Parameters
    ----------
    announce : callable
        Called once connections are accepted.
    launched : bool
        Whether a launcher started this process: it then stops it, and Ctrl-C is ignored.
    counts : ConnectionCounts or None
        Of the workers that accept from the same socket.
    """

    def __init__(
        self,
        app: Application,
        settings: Settings,
        announce: Callable[[], None],
        *,
        launched: bool = False,
        counts: ConnectionCounts | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=HttpProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                # The application decides which proxies to trust.
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._app = app
        self._announce = announce
        self._launched = launched
        self._counts = counts
        self._acceptor: Acceptor | None = None
        self._limit = settings.slow_client_seconds
        self._certificates = Certificates.from_settings(settings)
        self._timers: asyncio.Task[None] | None = None

    def run_on(self, listener: socket.socket, *, until_eof: bool) -> None:
        """Run until standard input ends, or a signal, which ends the process with 0.

        Requests in progress are finished.
        """
        for number in (signal.SIGTERM,) if self._launched else (signal.SIGTERM, signal.SIGINT):
            # uvicorn shuts down gracefully, restores this handler and raises the signal again.
            signal.signal(number, _exit)
        if until_eof:
            threading.Thread(target=_stop_at_eof, args=(self,), daemon=True).start()
        self.run(sockets=[listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Override of uvicorn's, with our acceptor."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(_EXIT_STARTUP)
        self._write_batcher = WriteBatcher(asyncio.get_running_loop())
        # uvicorn has no listeners to close: the acceptor closes its own.
        self.servers = []
        assert sockets
        self._acceptor = Acceptor(
            sockets[0],
            self._connection,
            self.server_state.connections,
            counts=self._counts,
            tls=self._certificates.context if self._certificates else None,
            tls_timeout=self._limit,
        )
        self._acceptor.start(_BACKLOG)
        self._timers = asyncio.create_task(self._run_timers())
        # Objects made at start live until the end: later collections need not scan them.
        gc.collect()
        gc.freeze()
        self.started = True
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_connected()
        await super().shutdown(sockets)
        if self._timers is not None:
            self._timers.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C reaches all processes of a terminal; the launcher handles it for its workers."""
        if not (self._launched and sig == signal.SIGINT):
            super().handle_exit(sig, frame)

    def _connection(self) -> asyncio.Protocol:
        options: dict[str, Any] = {
            "render_error": self._app.protocol_error,
            "config": self.config,
            "server_state": self.server_state,
            "app_state": self.lifespan.state,
        }
        fast_path = self._app.fast_path
        if fast_path is None:
            return HttpProtocol(**options)
        return FastPathProtocol(fast_path, self._write_batcher, **options)

    async def _run_timers(self) -> None:
        loop = asyncio.get_running_loop()
        publishing, certificates, timeouts = (
            BackgroundLoop("connection counts"),
            BackgroundLoop("certificates"),
            BackgroundLoop("timeouts"),
        )
        while True:
            await asyncio.sleep(min(_LONGEST_INTERVAL, self._limit / 4))
            with publishing.iteration():
                if self._acceptor is not None:
                    self._acceptor.publish_count()
            with certificates.iteration():
                if self._certificates is not None:
                    self._certificates.refresh()
            now = loop.time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, HttpProtocol)
                with timeouts.iteration():
                    connection.check_timeout(now, self._limit)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _stop_at_eof(server: uvicorn.Server) -> None:
    # Reads the descriptor: the lock of sys.stdin would block the interpreter's shutdown.
    while os.read(0, 4096):
        continue
    server.should_exit = True
