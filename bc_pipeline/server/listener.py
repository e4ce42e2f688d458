"""The listening socket: bound by the launcher, inherited by the workers, announced once."""

from __future__ import annotations

import json
import os
import socket
import sys

from bc_pipeline.errors import ConfigError


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to an address; port 0 picks a free one.

    Raises
    ------
    ConfigError
        Where the address is in use or invalid.
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


def announce(listener: socket.socket) -> None:
    """Report on standard output that connections are accepted."""
    host, port = listener.getsockname()[:2]
    line = {"event": "listening", "host": host, "port": port, "pid": os.getpid()}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
