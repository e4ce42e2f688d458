from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.process import protocol
from bc_pipeline.serving.process.protocol import HEADER_LIMIT, STEADY_BYTES, UNREAD_BYTES, Protocol

LIMIT = 0.5
LARGE = 8 * 1024 * 1024


class Application:
    """Answers by path, as the service's front does with errors."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if scope["path"] == "/large":
                body = bytes(LARGE)
            elif scope["path"] == "/unread":
                body = b"no"
            else:
                body = b"%d" % await self._read(receive)
            await asyncio.sleep(0)
            self.seen.append(list(scope["headers"]))
            await self._answer(send, 200, body)
        except PipelineError as error:
            response = problem_details.from_error(error)
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


class Endpoint:
    """A server in a thread, with a sweep that is faster than the service's."""

    def __init__(self, protocol: Callable[..., Protocol] = Protocol) -> None:
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
        config = uvicorn.Config(self.app, http=Protocol, ws="none", log_config=None)
        config.load()
        self._stop = asyncio.Event()
        server = await self.loop.create_server(
            lambda: self._protocol(config=config, server_state=self.state, app_state={}),
            "127.0.0.1",
            0,
        )
        self.address = server.sockets[0].getsockname()
        self._ready.set()
        while not self._stop.is_set():
            await asyncio.sleep(0.05)
            for connection in list(self.state.connections):
                assert isinstance(connection, Protocol)
                connection.sweep(self.loop.time(), LIMIT)
        server.close()
        for connection in list(self.state.connections):
            connection.transport.abort()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)

    def part(self) -> None:
        """What the service does to every connection when it ends."""
        for connection in list(self.state.connections):
            self.loop.call_soon_threadsafe(connection.shutdown)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self.loop.close()

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=10) as client:
            yield client


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    started = Endpoint()
    yield started
    started.stop()


def rest(client: socket.socket) -> bytes:
    """All that comes until the service ends the connection."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def one(client: socket.socket) -> tuple[int, bytes]:
    """One answer with a declared length."""
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


def problem(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def took(what: Callable[[], Any]) -> float:
    started = time.monotonic()
    what()
    return time.monotonic() - started


GET = b"GET / HTTP/1.1\r\nHost: s\r\n\r\n"


def test_requests_follow_each_other_on_one_connection(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        for size in (0, 1, 70_000, 3):
            head = b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n" % size
            client.sendall(head + bytes(size))
            assert one(client) == (200, b"%d" % size)
        client.sendall(GET * 5)
        client.shutdown(socket.SHUT_WR)
        assert rest(client).count(b"200 OK") >= 1
    assert endpoint.state.total_requests >= 5


@pytest.mark.parametrize(
    "data",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: s\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n Folded: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_answered_with_a_problem(endpoint: Endpoint, data: bytes) -> None:
    with endpoint.connect() as client:
        client.sendall(data)
        status, content = problem(rest(client))
    assert (status, content["code"]) == (400, "request-refused")


@pytest.mark.parametrize("piece", [1000, 1_000_000])
@pytest.mark.parametrize("line", [b"X-Many: x\r\n", b"x"])
def test_endless_headers_are_refused_before_they_fill_memory(
    endpoint: Endpoint, piece: int, line: bytes
) -> None:
    data = b"GET / HTTP/1.1\r\nHost: s\r\nX-Long: " + line * (2 * UNREAD_BYTES // len(line))
    answer = b""
    with endpoint.connect() as client:
        try:
            for start in range(0, 4 * HEADER_LIMIT, piece):
                client.sendall(data[start : start + piece])
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = rest(client)
    if answer:
        status, content = problem(answer)
        assert (status, content["code"]) == (431, "request-header-fields-too-large")
    assert piece > UNREAD_BYTES // 2 or answer
    assert endpoint.app.seen == []


def test_large_but_sound_headers_pass(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: s\r\nX-Long: " + b"x" * (HEADER_LIMIT // 2) + b"\r\n\r\n"
        )
        assert one(client)[0] == 200


def test_a_trailer_does_not_pass_for_a_header(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
        )
        assert one(client) == (200, b"1")
    (headers,) = endpoint.app.seen
    assert [name for name, _ in headers] == [b"host", b"transfer-encoding"]


def test_trailers_do_not_grow_without_end(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: "
        )
        try:
            for _ in range(20):
                client.sendall(b"x" * 8192)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert problem(rest(client))[0] == 431


def test_an_idle_connection_and_slow_headers_are_closed(endpoint: Endpoint) -> None:
    with endpoint.connect() as idle, endpoint.connect() as slow, endpoint.connect() as used:
        slow.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        used.sendall(GET)
        assert one(used)[0] == 200

        def drip() -> None:
            try:
                while True:
                    slow.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                return

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert LIMIT / 2 < took(dripping.join) < 10 * LIMIT
        assert rest(idle) == b""
        assert rest(used) == b""


def test_a_slow_body_is_told_so(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 50\r\n\r\n{")
        status, body = one(client)
        assert (status, json.loads(body)["code"]) == (408, "body-too-slow")
        assert rest(client) == b""


def test_a_large_body_that_moves_is_not_slow(endpoint: Endpoint) -> None:
    parts = 12
    with endpoint.connect() as client:
        size = parts * STEADY_BYTES
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(parts):
            client.sendall(bytes(STEADY_BYTES))
            time.sleep(LIMIT / 4)
        assert one(client) == (200, b"%d" % size)


def test_an_answer_that_nobody_reads_is_dropped(endpoint: Endpoint) -> None:
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
        assert len(rest(client)) < LARGE


def test_an_answer_that_is_read_steadily_arrives_whole(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
        received = 0
        while part := client.recv(256 * 1024):
            received += len(part)
            time.sleep(LIMIT / 10)
    assert received > LARGE


def test_a_body_that_nobody_wants_is_not_read_to_its_end(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST /unread HTTP/1.1\r\nHost: s\r\nContent-Length: 999999999\r\n\r\n")
        assert one(client) == (200, b"no")
        sent = 0
        try:
            while sent < 100 * UNREAD_BYTES:
                client.sendall(bytes(65536))
                sent += 65536
        except OSError:
            pass
        # The rest stood in the buffers of the system.
        assert sent < 50 * UNREAD_BYTES


def test_a_short_rest_of_a_body_keeps_the_connection(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST /unread HTTP/1.1\r\nHost: s\r\nContent-Length: 10\r\n\r\n")
        assert one(client) == (200, b"no")
        client.sendall(bytes(10) + GET)
        assert one(client) == (200, b"0")


def test_a_body_that_waits_to_be_asked_for_is_not_taken_for_a_request(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST /unread HTTP/1.1\r\nHost: s\r\nContent-Length: 27\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert rest(client).endswith(b"no")


def test_the_end_lets_a_request_on_its_way_be_the_last(endpoint: Endpoint) -> None:
    with endpoint.connect() as busy, endpoint.connect() as idle:
        for client in (busy, idle):
            client.sendall(GET)
            assert one(client)[0] == 200
        endpoint.part()
        time.sleep(protocol.PARTING_SECONDS / 3)
        busy.sendall(GET)
        answer = rest(busy)
        assert b"200 OK" in answer
        assert b"connection: close" in answer
        assert rest(idle) == b""


def test_the_end_does_not_wait_for_half_a_head(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sweep would end them in a while.
    monkeypatch.setitem(globals(), "LIMIT", 30.0)
    with endpoint.connect() as fresh, endpoint.connect() as used:
        used.sendall(GET)
        assert one(used)[0] == 200
        for client in (fresh, used):
            client.sendall(GET[:-9])
        time.sleep(0.1)
        endpoint.part()
        assert took(lambda: (rest(fresh), rest(used))) < 5


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
def test_the_body_of_an_offer_to_upgrade_is_a_body(
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
            assert one(client) == (200, b"%d" % len(HIDDEN))
        client.sendall(GET)
        assert one(client) == (200, b"0")
    assert len(endpoint.app.seen) == 3
    assert [name for name, _ in endpoint.app.seen[0] if name == b"upgrade"] == [b"upgrade"]


def test_offers_to_upgrade_among_pipelined_requests(endpoint: Endpoint) -> None:
    offers = [b"".join(post(HIDDEN, offer=H2C, chunked=chunked)) for chunked in (False, True)]
    without_body = GET.replace(b"s\r\n", b"s\r\n" + WEBSOCKET, 1)
    with endpoint.connect() as client:
        client.sendall(GET + offers[0] + GET + offers[1] + without_body + offers[0])
        client.sendall(GET.replace(b"s\r\n", b"s\r\nConnection: close\r\n"))
        answers = rest(client).split(b"HTTP/1.1 200 OK\r\n")
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    hidden = b"%d" % len(HIDDEN)
    assert bodies == [b"", b"0", hidden, b"0", hidden, b"0", hidden, b"0"]


def test_very_many_offers_to_upgrade_at_once(endpoint: Endpoint) -> None:
    offer = b"GET / HTTP/1.1\r\nConnection:upgrade\r\nUpgrade:x\r\n\r\n"
    count = 3000
    with endpoint.connect() as client:
        client.sendall(offer * count + GET.replace(b"s\r\n", b"s\r\nConnection: close\r\n"))
        assert rest(client).count(b"200 OK") == count + 1


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
    ],
)
@pytest.mark.parametrize("offer", [b"", WEBSOCKET])
def test_a_body_of_unclear_length_is_refused(
    endpoint: Endpoint, framing: bytes, offer: bytes
) -> None:
    with endpoint.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: s\r\n" + offer + framing + b"\r\n" + HIDDEN)
        status, content = problem(rest(client))
    assert (status, content["code"]) == (400, "request-refused")


def test_a_client_that_offers_to_upgrade_is_held_to_the_limit_of_headers(
    endpoint: Endpoint,
) -> None:
    offer = GET.replace(b"s\r\n", b"s\r\n" + WEBSOCKET, 1)
    with endpoint.connect() as client:
        client.sendall(offer)
        assert one(client) == (200, b"0")
        try:
            for _ in range(20):
                client.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 8192)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert problem(rest(client))[0] == 431
