from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from bc_pipeline.server.fast_path_protocol import FastPathProtocol
from bc_pipeline.server.write_batcher import WriteBatcher
from tests.unit.server.test_http_protocol import LIMIT, Endpoint, read_answer, read_to_end

GET = b"GET / HTTP/1.1\r\nHost: s\r\n\r\n"
CLOSE = (b"s\r\n", b"s\r\nConnection: close\r\n")


class FakeFastPath:
    """Answers bodies that begin with ``y``, and records its calls."""

    paths: ClassVar = {b"/predict": "/predict", b"/v1/predict": "/v1/predict"}
    body_limit = 16 * 1024

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[bytes, bytes], str, bytes]] = []

    def answer(
        self, path: str, headers: list[tuple[bytes, bytes]], peer: str, body: bytes
    ) -> bytes | None:
        self.calls.append((path, dict(headers), peer, body))
        if body == b"large":
            return b"content-length: 65536\r\n\r\n" + bytes(65536)
        return b"content-length: 4\r\n\r\nfast" if body.startswith(b"y") else None


def post(body: bytes, path: bytes = b"/predict") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


@pytest.fixture
def fast_path() -> FakeFastPath:
    return FakeFastPath()


@pytest.fixture
def endpoint(fast_path: FakeFastPath) -> Iterator[Endpoint]:
    batchers: list[WriteBatcher] = []

    def connection(**shared: Any) -> FastPathProtocol:
        batchers.append(WriteBatcher(asyncio.get_running_loop()))
        return FastPathProtocol(fast_path, batchers[0], **shared)

    started = Endpoint(connection)
    yield started
    started.stop()


def test_fast_answers_and_others_alternate(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        for request, body in (
            (post(b"yes"), b"fast"),
            (GET, b"0"),
            (post(b"no"), b"2"),
            (post(b"yes", b"/other"), b"3"),
            (post(b"yes", b"/v1/predict"), b"fast"),
            (post(b"yes", b"/predict?a=1"), b"3"),
            (GET.replace(b"/ ", b"/predict "), b"0"),
        ):
            client.sendall(request)
            assert read_answer(client) == (200, body)
        yes = post(b"yes")
        client.sendall(yes * 3 + GET + yes + post(b"no") + yes + yes.replace(*CLOSE))
        bodies = [
            part.partition(b"\r\n\r\n")[2] for part in read_to_end(client).split(b"HTTP/1.1 200 OK")
        ]
    # Whether a request behind an ordinary one takes the fast path depends on how data arrives.
    assert [bodies[n] for n in (0, 1, 2, 3, 4, 6, 8)] == [b"", *[b"fast"] * 3, b"0", b"2", b"3"]
    assert {bodies[5], bodies[7]} <= {b"fast", b"3"}
    assert endpoint.state.total_requests == 15


def test_the_fast_path_gets_path_headers_peer_and_body(
    endpoint: Endpoint, fast_path: FakeFastPath
) -> None:
    with endpoint.connect() as client:
        request = post(b"yes").replace(b"Host: s", b"Host: s\r\nX-Api-Key: K")
        client.sendall(request)
        assert read_answer(client) == (200, b"fast")
    headers = {b"host": b"s", b"x-api-key": b"K", b"content-length": b"3"}
    assert fast_path.calls == [("/predict", headers, "127.0.0.1", b"yes")]


@pytest.mark.parametrize("cut", [10, -5, -4, -1])
def test_a_request_may_arrive_in_pieces(
    endpoint: Endpoint, fast_path: FakeFastPath, cut: int
) -> None:
    request = post(b"y234")
    with endpoint.connect() as client:
        for piece in (request[:cut], request[cut:]):
            client.sendall(piece)
            time.sleep(0.05)
        assert read_answer(client) == (200, b"fast")
    assert [body for *_, body in fast_path.calls] == [b"y234"]


def test_a_chunked_body_is_joined_and_its_trailers_are_not_headers(
    endpoint: Endpoint, fast_path: FakeFastPath
) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nye\r\n1\r\ns\r\n0\r\nX-Api-Key: K\r\n\r\n"
        )
        assert read_answer(client) == (200, b"fast")
    ((_, headers, _, body),) = fast_path.calls
    assert body == b"yes"
    assert b"x-api-key" not in headers


@pytest.mark.parametrize("size", [16 * 1024, 17 * 1024, 300_000])
def test_a_large_body_is_passed_to_the_application(
    endpoint: Endpoint, fast_path: FakeFastPath, size: int
) -> None:
    with endpoint.connect() as client:
        client.sendall(post(bytes(size)))
        assert read_answer(client) == (200, b"%d" % size)
        client.sendall(post(b"yes"))
        assert read_answer(client) == (200, b"fast")
    assert [len(body) for *_, body in fast_path.calls] == ([size, 3] if size <= 16 * 1024 else [3])


@pytest.mark.parametrize(
    "change",
    [
        CLOSE,
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"s\r\n", b"s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
    ],
)
def test_a_request_that_closes_or_upgrades_the_connection_is_passed_to_the_application(
    endpoint: Endpoint, fast_path: FakeFastPath, change: tuple[bytes, bytes]
) -> None:
    with endpoint.connect() as client:
        client.sendall(post(b"yes").replace(*change, 1))
        assert read_answer(client) == (200, b"3")
    assert fast_path.calls == []


def test_a_client_that_expects_100_continue_gets_it(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        head, body = post(b"yes")[:-3], b"yes"
        client.sendall(head.replace(b"s\r\n", b"s\r\nExpect: 100-continue\r\n", 1))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read_answer(client) == (200, b"3")


def test_a_fast_answer_precedes_the_rejection_of_later_data(
    endpoint: Endpoint,
) -> None:
    for together in (True, False) * 10:
        with endpoint.connect() as client:
            if together:
                client.sendall(post(b"yes") + b"no HTTP at all\r\n\r\n")
            else:
                client.sendall(post(b"yes"))
                client.sendall(b"no HTTP at all\r\n\r\n")
            first, *others = read_to_end(client).split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200 OK")
        assert [other[:3] for other in others] == [b"400"]


def test_an_invalid_chunk_is_rejected(endpoint: Endpoint, fast_path: FakeFastPath) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
        )
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
    assert fast_path.calls == []


def test_shutdown_answers_a_buffered_request(endpoint: Endpoint) -> None:
    request = post(b"yes")
    for cut in (*range(0, len(request), 16), len(request)):
        with endpoint.connect() as client:
            client.sendall(request[:cut])
            endpoint.shut_down()
            client.sendall(request[cut:])
            # The last request of a connection is passed to the application.
            assert read_to_end(client)[-1:] in (b"t", b"3")


def test_a_fast_answer_has_the_default_headers_of_the_server(endpoint: Endpoint) -> None:
    endpoint.state.default_headers = [(b"date", b"today")]
    with endpoint.connect() as client:
        client.sendall(post(b"yes"))
        assert client.recv(65536) == (
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 4\r\n\r\nfast"
        )


def test_a_slow_body_is_answered_with_408(endpoint: Endpoint, fast_path: FakeFastPath) -> None:
    with endpoint.connect() as client:
        client.sendall(post(b"yes")[:-1])
        status, body = read_answer(client)
        assert (status, json.loads(body)["code"]) == (408, "body-too-slow")
        assert read_to_end(client) == b""
    assert fast_path.calls == []


def test_a_client_that_disconnects_in_the_middle_reaches_the_application(
    endpoint: Endpoint, fast_path: FakeFastPath
) -> None:
    with endpoint.connect() as client:
        client.sendall(post(b"yes")[:-1])
        time.sleep(0.1)
    until = time.monotonic() + 5
    while not endpoint.app.headers and time.monotonic() < until:
        time.sleep(0.01)
    assert len(endpoint.app.headers) == 1
    assert fast_path.calls == []


def test_a_busy_connection_is_not_closed_as_idle(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        began = time.monotonic()
        while time.monotonic() - began < 3 * LIMIT:
            client.sendall(post(b"yes"))
            assert read_answer(client) == (200, b"fast")
            time.sleep(LIMIT / 20)
        assert read_to_end(client) == b""


def test_a_client_that_reads_no_answers_is_disconnected(endpoint: Endpoint) -> None:
    with endpoint.connect() as client, pytest.raises(ConnectionError):
        request_without_reading(client)


def request_without_reading(client: socket.socket) -> None:
    while True:
        client.sendall(post(b"large") * 10)
