"""uvicorn's server as the service runs it: its own protocol, renewable TLS, an orderly end."""

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

from bc_pipeline.serving.app import Application
from bc_pipeline.serving.process.acceptor import Acceptor, Shares
from bc_pipeline.serving.process.outbox import Outbox
from bc_pipeline.serving.process.prompt import PromptProtocol
from bc_pipeline.serving.process.protocol import Protocol
from bc_pipeline.serving.process.tls import Certificates
from bc_pipeline.serving.turns import Turns
from bc_pipeline.settings import Settings

DRAIN_SECONDS = 10
_EXIT_STARTUP = 3
_LONGEST_SWEEP = 1.0
_BACKLOG = 2048


class Server(uvicorn.Server):
    """Serves one application on a socket that is bound already.

    Parameters
    ----------
    announce : callable
        Called once requests are accepted.
    launched : bool
        Whether a launcher watches over this process: it, not the terminal, ends it then.
    shares : Shares or None
        Of the workers that take connections from the same socket.
    """

    def __init__(
        self,
        app: Application,
        settings: Settings,
        announce: Callable[[], None],
        *,
        launched: bool = False,
        shares: Shares | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                # `AddressBook` alone says whose word on addresses counts.
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._short_way = app.short_way
        self._announce = announce
        self._launched = launched
        self._shares = shares
        self._acceptor: Acceptor | None = None
        self._limit = settings.slow_client_seconds
        self._certificates = Certificates.of(settings)
        self._sweep: asyncio.Task[None] | None = None

    def run_on(self, listener: socket.socket, *, until_eof: bool) -> None:
        """Run until standard input ends, or a signal, which ends the process with 0.

        Requests under way are finished.
        """
        for number in (signal.SIGTERM,) if self._launched else (signal.SIGTERM, signal.SIGINT):
            # uvicorn drains, puts this back and raises the signal again.
            signal.signal(number, _leave)
        if until_eof:
            threading.Thread(target=_stop_at_eof, args=(self,), daemon=True).start()
        self.run(sockets=[listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's: with our acceptor."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(_EXIT_STARTUP)
        self._outbox = Outbox(asyncio.get_running_loop())
        # Nothing for uvicorn to close: the acceptor is ours.
        self.servers = []
        assert sockets
        self._acceptor = Acceptor(
            sockets[0],
            self._connection,
            self.server_state.connections,
            shares=self._shares,
            tls=self._certificates.context if self._certificates else None,
            patience=self._limit,
        )
        self._acceptor.start(_BACKLOG)
        self._sweep = asyncio.create_task(self._sweep_now_and_then())
        # What was made at the start stays for good: no collection needs to walk it again.
        gc.collect()
        gc.freeze()
        self.started = True
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.finish()
        await super().shutdown(sockets)
        if self._sweep is not None:
            self._sweep.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C reaches all processes of a terminal: those of a launcher leave it to that."""
        if not (self._launched and sig == signal.SIGINT):
            super().handle_exit(sig, frame)

    def _connection(self) -> asyncio.Protocol:
        shared: dict[str, Any] = {
            "config": self.config,
            "server_state": self.server_state,
            "app_state": self.lifespan.state,
        }
        if self._short_way is None:
            return Protocol(**shared)
        return PromptProtocol(self._short_way, self._outbox, **shared)

    async def _sweep_now_and_then(self) -> None:
        loop = asyncio.get_running_loop()
        shares, certificates, sweep = Turns("shares"), Turns("certificates"), Turns("sweep")
        while True:
            await asyncio.sleep(min(_LONGEST_SWEEP, self._limit / 4))
            with shares.turn():
                if self._acceptor is not None:
                    self._acceptor.tell_share()
            with certificates.turn():
                if self._certificates is not None:
                    self._certificates.refresh()
            now = loop.time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Protocol)
                with sweep.turn():
                    connection.sweep(now, self._limit)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _stop_at_eof(server: uvicorn.Server) -> None:
    # The descriptor, not sys.stdin: its buffer's lock would be held at interpreter shutdown.
    while os.read(0, 4096):
        continue
    server.should_exit = True
