from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from bc_pipeline.errors import PipelineError
from bc_pipeline.server import http_protocol
from bc_pipeline.server.application import Headers
from bc_pipeline.server.http_protocol import (
    DISCARD_BYTES,
    HEADER_LIMIT,
    PROGRESS_BYTES,
    HttpProtocol,
)
from bc_pipeline.serving import error_responses
from tests.waiting import PATIENCE

LIMIT = 0.5
LARGE = 8 * 1024 * 1024


class Application:
    """Answers by path; errors become problems, as in the service."""

    def __init__(self) -> None:
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        try:
            if scope["path"] == "/large":
                body = bytes(LARGE)
            elif scope["path"] == "/unread":
                body = b"no"
            else:
                body = b"%d" % await self._read(receive)
            await asyncio.sleep(0)
            self.headers.append(list(scope["headers"]))
            await self._answer(send, 200, body)
        except PipelineError as error:
            response = error_responses.from_error(error)
            await self._answer(send, response.status_code, bytes(response.body))

    async def _read(self, receive: Any) -> int:
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return size
            size += len(message["body"])
            if not message["more_body"]:
                return size

    async def _answer(self, send: Any, status: int, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        for start in range(0, len(body), 65536):
            part = body[start : start + 65536]
            more = start + 65536 < len(body)
            await send({"type": "http.response.body", "body": part, "more_body": more})


def render_error(status: HTTPStatus, detail: str, request: Headers) -> tuple[Headers, bytes]:
    response = error_responses.protocol_error(status, detail)
    origin = [(b"x-origin", value) for name, value in request if name == b"origin"]
    return [*response.raw_headers, *origin], bytes(response.body)


class Endpoint:
    """A server in a thread, which checks timeouts more often than the service."""

    def __init__(self, protocol: Callable[..., HttpProtocol] = HttpProtocol) -> None:
        self._protocol = protocol
        self.app = Application()
        self.state = ServerState()
        self.loop = asyncio.new_event_loop()
        self.address = ("", 0)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        self._ready.wait()

    async def _run(self) -> None:
        config = uvicorn.Config(self.app, http=HttpProtocol, ws="none", log_config=None)
        config.load()
        self._stop = asyncio.Event()
        server = await self.loop.create_server(
            lambda: self._protocol(
                render_error=render_error, config=config, server_state=self.state, app_state={}
            ),
            "127.0.0.1",
            0,
        )
        self.address = server.sockets[0].getsockname()
        self._ready.set()
        while not self._stop.is_set():
            await asyncio.sleep(0.05)
            for connection in list(self.state.connections):
                assert isinstance(connection, HttpProtocol)
                connection.check_timeout(self.loop.time(), LIMIT)
        server.close()
        for connection in list(self.state.connections):
            connection.transport.abort()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)

    def shut_down(self) -> None:
        """Shut every connection down, as the service does when it ends."""
        for connection in list(self.state.connections):
            self.loop.call_soon_threadsafe(connection.shutdown)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        self.loop.close()

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=PATIENCE) as client:
            yield client


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    started = Endpoint()
    yield started
    started.stop()


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def read_answer(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of an answer with a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return int(head.split()[1]), body


def parse_problem(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


GET = b"GET / HTTP/1.1\r\nHost: s\r\n\r\n"


def test_a_connection_serves_several_requests(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        for size in (0, 1, 70_000, 3):
            head = b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n" % size
            client.sendall(head + bytes(size))
            assert read_answer(client) == (200, b"%d" % size)
        client.sendall(GET * 5)
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client).count(b"200 OK") >= 1
    assert endpoint.state.total_requests >= 5


@pytest.mark.parametrize(
    "data",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: s\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_data_that_is_not_http_is_answered_with_a_problem(endpoint: Endpoint, data: bytes) -> None:
    with endpoint.connect() as client:
        client.sendall(data)
        status, content = parse_problem(read_to_end(client))
    assert (status, content["code"]) == (400, "request-refused")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: x\r\n\r\n",
        b"X-Long: " + b"x" * 40_000,
        b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
    ],
)
def test_the_answer_to_a_rejected_request_may_depend_on_its_headers(
    endpoint: Endpoint, rest: bytes
) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\nOrigin: https://app.example\r\n" + rest)
        answer = read_to_end(client)
    assert parse_problem(answer)[0] in (400, 431)
    assert b"x-origin: https://app.example\r\n" in answer


@pytest.mark.parametrize("piece", [1000, 1_000_000])
@pytest.mark.parametrize("line", [b"X-Many: x\r\n", b"x"])
def test_endless_headers_are_rejected_before_they_fill_memory(
    endpoint: Endpoint, piece: int, line: bytes
) -> None:
    data = b"GET / HTTP/1.1\r\nHost: s\r\nX-Long: " + line * (2 * DISCARD_BYTES // len(line))
    answer = b""
    with endpoint.connect() as client:
        try:
            for start in range(0, 4 * HEADER_LIMIT, piece):
                client.sendall(data[start : start + piece])
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = read_to_end(client)
    if answer:
        status, content = parse_problem(answer)
        assert (status, content["code"]) == (431, "request-header-fields-too-large")
    assert piece > DISCARD_BYTES // 2 or answer
    assert endpoint.app.headers == []


def test_headers_below_the_limit_are_accepted(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: s\r\nX-Long: " + b"x" * (HEADER_LIMIT // 2) + b"\r\n\r\n"
        )
        assert read_answer(client)[0] == 200


def test_trailers_are_not_headers(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
        )
        assert read_answer(client) == (200, b"1")
    (headers,) = endpoint.app.headers
    assert [name for name, _ in headers] == [b"host", b"transfer-encoding"]


def test_endless_trailers_are_rejected(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: "
        )
        try:
            for _ in range(20):
                client.sendall(b"x" * 8192)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert parse_problem(read_to_end(client))[0] == 431


def test_idle_connections_and_slow_headers_are_closed(endpoint: Endpoint) -> None:
    with endpoint.connect() as idle, endpoint.connect() as slow, endpoint.connect() as used:
        slow.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        used.sendall(GET)
        assert read_answer(used)[0] == 200

        def drip() -> None:
            try:
                while True:
                    slow.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                return

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert LIMIT / 2 < seconds_of(dripping.join) < 10 * LIMIT
        assert read_to_end(idle) == b""
        assert read_to_end(used) == b""


def test_a_slow_body_is_answered_with_408(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 50\r\n\r\n{")
        status, body = read_answer(client)
        assert (status, json.loads(body)["code"]) == (408, "body-too-slow")
        assert read_to_end(client) == b""


def test_a_body_that_makes_progress_is_not_timed_out(endpoint: Endpoint) -> None:
    parts = 12
    with endpoint.connect() as client:
        size = parts * PROGRESS_BYTES
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(parts):
            client.sendall(bytes(PROGRESS_BYTES))
            time.sleep(LIMIT / 4)
        assert read_answer(client) == (200, b"%d" % size)


def test_an_answer_that_the_client_does_not_read_is_dropped(endpoint: Endpoint) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(endpoint.address)
        client.settimeout(10)
        client.sendall(b"GET /large HTTP/1.1\r\nHost: s\r\n\r\n")
        deadline = time.monotonic() + 20 * LIMIT
        time.sleep(LIMIT / 5)
        while endpoint.state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(read_to_end(client)) < LARGE


def test_an_answer_that_is_read_slowly_but_steadily_arrives(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
        received = 0
        while part := client.recv(256 * 1024):
            received += len(part)
            time.sleep(LIMIT / 10)
    assert received > LARGE


def test_the_rest_of_a_body_after_the_answer_is_discarded_up_to_a_limit(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST /unread HTTP/1.1\r\nHost: s\r\nContent-Length: 999999999\r\n\r\n")
        assert read_answer(client) == (200, b"no")
        sent = 0
        try:
            while sent < 100 * DISCARD_BYTES:
                client.sendall(bytes(65536))
                sent += 65536
        except OSError:
            pass
        # The rest was in the buffers of the system.
        assert sent < 50 * DISCARD_BYTES


def test_a_short_rest_of_a_body_after_the_answer_keeps_the_connection(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST /unread HTTP/1.1\r\nHost: s\r\nContent-Length: 10\r\n\r\n")
        assert read_answer(client) == (200, b"no")
        client.sendall(bytes(10) + GET)
        assert read_answer(client) == (200, b"0")


def test_a_request_with_expect_100_continue_that_was_answered_closes_the_connection(
    endpoint: Endpoint,
) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST /unread HTTP/1.1\r\nHost: s\r\nContent-Length: 27\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert read_to_end(client).endswith(b"no")


def test_shutdown_answers_a_request_that_is_on_its_way(endpoint: Endpoint) -> None:
    with endpoint.connect() as busy, endpoint.connect() as idle:
        for client in (busy, idle):
            client.sendall(GET)
            assert read_answer(client)[0] == 200
        endpoint.shut_down()
        time.sleep(http_protocol.SHUTDOWN_IDLE_SECONDS / 3)
        busy.sendall(GET)
        answer = read_to_end(busy)
        assert b"200 OK" in answer
        assert b"connection: close" in answer
        assert read_to_end(idle) == b""


def test_shutdown_does_not_wait_for_incomplete_headers(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The timeout would close them too.
    monkeypatch.setitem(globals(), "LIMIT", 30.0)
    with endpoint.connect() as fresh, endpoint.connect() as used:
        used.sendall(GET)
        assert read_answer(used)[0] == 200
        for client in (fresh, used):
            client.sendall(GET[:-9])
        time.sleep(0.1)
        endpoint.shut_down()
        assert seconds_of(lambda: (read_to_end(fresh), read_to_end(used))) < 5


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
WEBSOCKET = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: s\r\n\r\n"


def post(body: bytes, *, offer: bytes, chunked: bool) -> tuple[bytes, bytes]:
    """Head and body of a request that offers to upgrade."""
    head = b"POST / HTTP/1.1\r\nHost: s\r\n" + offer
    if chunked:
        return (
            head + b"Transfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n%s\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(body), body),
        )
    return head + b"Content-Length: %d\r\n\r\n" % len(body), body


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("offer", [H2C, WEBSOCKET])
def test_a_request_that_offers_to_upgrade_keeps_its_body(
    endpoint: Endpoint, offer: bytes, split: bool, chunked: bool
) -> None:
    head, body = post(HIDDEN, offer=offer, chunked=chunked)
    with endpoint.connect() as client:
        for _ in range(2):
            if split:
                client.sendall(head[:-1])
                time.sleep(0.05)
                client.sendall(head[-1:])
                time.sleep(0.05)
                for start in range(0, len(body), 9):
                    client.sendall(body[start : start + 9])
                    time.sleep(0.005)
            else:
                client.sendall(head + body)
            assert read_answer(client) == (200, b"%d" % len(HIDDEN))
        client.sendall(GET)
        assert read_answer(client) == (200, b"0")
    assert len(endpoint.app.headers) == 3
    assert [name for name, _ in endpoint.app.headers[0] if name == b"upgrade"] == [b"upgrade"]


def test_offers_to_upgrade_among_pipelined_requests(endpoint: Endpoint) -> None:
    offers = [b"".join(post(HIDDEN, offer=H2C, chunked=chunked)) for chunked in (False, True)]
    without_body = GET.replace(b"s\r\n", b"s\r\n" + WEBSOCKET, 1)
    with endpoint.connect() as client:
        client.sendall(GET + offers[0] + GET + offers[1] + without_body + offers[0])
        client.sendall(GET.replace(b"s\r\n", b"s\r\nConnection: close\r\n"))
        answers = read_to_end(client).split(b"HTTP/1.1 200 OK\r\n")
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    hidden = b"%d" % len(HIDDEN)
    assert bodies == [b"", b"0", hidden, b"0", hidden, b"0", hidden, b"0"]


def test_thousands_of_pipelined_offers_to_upgrade(endpoint: Endpoint) -> None:
    offer = b"GET / HTTP/1.1\r\nHost:s\r\nConnection:upgrade\r\nUpgrade:x\r\n\r\n"
    count = 3000
    with endpoint.connect() as client:
        client.sendall(offer * count + GET.replace(b"s\r\n", b"s\r\nConnection: close\r\n"))
        assert read_to_end(client).count(b"200 OK") == count + 1


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        (b"Transfer-Encoding: gzip\r\n", (501, "not-implemented")),
        (b"Transfer-Encoding: chunked, identity\r\n", (501, "not-implemented")),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", (400, "request-refused")),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", (400, "request-refused")),
    ],
)
@pytest.mark.parametrize("offer", [b"", WEBSOCKET])
def test_a_body_of_ambiguous_length_is_rejected(
    endpoint: Endpoint, framing: bytes, expected: tuple[int, str], offer: bytes
) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\n" + offer + framing + b"\r\n" + HIDDEN)
        status, content = parse_problem(read_to_end(client))
    assert (status, content["code"]) == expected
    assert endpoint.app.headers == []


def test_the_header_limit_holds_after_an_offer_to_upgrade(
    endpoint: Endpoint,
) -> None:
    offer = GET.replace(b"s\r\n", b"s\r\n" + WEBSOCKET, 1)
    with endpoint.connect() as client:
        client.sendall(offer)
        assert read_answer(client) == (200, b"0")
        try:
            for _ in range(20):
                client.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 8192)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert parse_problem(read_to_end(client))[0] == 431
