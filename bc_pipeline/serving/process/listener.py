"""The socket that the service listens on; the launcher takes it, its workers inherit it."""

from __future__ import annotations

import socket

from bc_pipeline.errors import ConfigError


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
