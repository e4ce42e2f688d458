"""``python -m bc_pipeline.serving``: run the service.

Standard output gets one line, once the service accepts requests::

    {"event": "listening", "host": "127.0.0.1", "port": 8000, "pid": 4711}

Logs go to standard error. SIGTERM and SIGINT let requests under way finish and end with 0.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from structlog.types import Processor

from bc_pipeline.errors import ConfigError, PipelineError
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.folder import load_folder
from bc_pipeline.settings import load_settings

DRAIN_SECONDS = 10
EXIT_REFUSED = 2


class AnnouncingServer(uvicorn.Server):
    """Tells where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        line = {"event": "listening", "host": host, "port": port, "pid": os.getpid()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; the exit code is 0, or 2 where the service cannot start."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains, puts this back and raises the signal again.
        signal.signal(number, _leave)
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        pinned = None
        if options.folder:
            pinned = load_folder(options.folder, settings)
        app = create_app(settings, pinned)
        host = options.host or settings.host
        port = settings.service_port if options.port is None else options.port
        listener = bind(host, port)
    except PipelineError as error:
        sys.stderr.write(f"bc_pipeline.serving: {error}\n")
        return EXIT_REFUSED
    server = AnnouncingServer(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    if options.until_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    return 0


def bind(host: str, port: int) -> socket.socket:
    """Take the address; port 0 takes a free one.

    Raises
    ------
    ConfigError
        Where the address is taken or is none.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"The service cannot listen on {host} port {port}: {error.strerror}.",
            "Set BC_HOST and BC_SERVICE_PORT to a free address.",
            setting="BC_SERVICE_PORT",
        ) from None
    return listener


def configure_logs(level: str) -> None:
    """Send our log lines and uvicorn's to standard error, each one JSON object."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    # Ours go straight to the stream: one line per request is worth the shorter way.
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bc_pipeline.serving",
        description="Serve predictions. Settings come from BC_* in the environment.",
    )
    parser.add_argument("--host", help="address to bind; default: BC_HOST")
    parser.add_argument(
        "--port", type=int, help="port to bind, 0 for a free one; default: BC_SERVICE_PORT"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="serve the signed version in this folder, whatever the registry says",
    )
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="stop when standard input ends, so as not to outlive the process that started it",
    )
    return parser


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _stop_at_eof(server: uvicorn.Server) -> None:
    # The descriptor, not sys.stdin: its buffer's lock would be held at interpreter shutdown.
    while os.read(0, 4096):
        continue
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
