"""Two hundred clients that send or read slowly."""

from __future__ import annotations

import socket
import time

from tests.e2e.service_process import KEY, Service

SLOW = 200
UNREAD = 3
_HEAD = f"POST /predict HTTP/1.1\r\nHost: s\r\nX-API-Key: {KEY}\r\n"
_JSON = "Content-Type: application/json\r\n"
# Answers that nobody reads: more than the system's buffers take.
_UNREAD = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: s\r\n\r\n" * 8
# First bytes of each kind of slow client, and bytes that it sends now and then: headers that never
# end, a body that never ends, nothing at all, and requests whose answers it does not read.
KINDS = (
    (b"GET /livez HTTP/1.1\r\nHost: s\r\nX-Slow: ", b"x"),
    (f"{_HEAD}{_JSON}Content-Length: 5000\r\n\r\n{{".encode(), b" "),
    (b"", b""),
    (_UNREAD, b"G"),
)


class SlowClients:
    """Sockets of which each sends a byte now and then, and reads nothing."""

    def __init__(self, service: Service) -> None:
        self.closed: list[tuple[int, float]] = []
        self.answers: list[bytes] = []
        self._started = time.monotonic()
        self._open: list[tuple[socket.socket, int]] = []
        for number in range(SLOW):
            kind = number % len(KINDS)
            sock = socket.socket()
            if kind == UNREAD:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", service.port))
            sock.setblocking(False)
            sock.send(KINDS[kind][0])
            self._open.append((sock, kind))

    def drip(self) -> None:
        """Send one more byte on each; note the ones that the service has closed."""
        still = []
        for sock, kind in self._open:
            if self._is_open(sock, kind):
                still.append((sock, kind))
            else:
                self.closed.append((kind, time.monotonic() - self._started))
                sock.close()
        self._open = still

    def _is_open(self, sock: socket.socket, kind: int) -> bool:
        # A client that reads nothing notices the closed connection only by a reset.
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
        try:
            if kind != UNREAD:
                self.answers.append(sock.recv(65536))
                return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        try:
            sock.send(KINDS[kind][1])
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def drip_until_closed(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            self.drip()
            time.sleep(0.2)

    def close(self) -> None:
        for sock, _ in self._open:
            sock.close()
