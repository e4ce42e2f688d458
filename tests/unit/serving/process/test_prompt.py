from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bc_pipeline.serving.process.outbox import Outbox
from bc_pipeline.serving.process.prompt import PromptProtocol
from tests.unit.serving.process.test_protocol import LIMIT, Endpoint, one, rest

GET = b"GET / HTTP/1.1\r\nHost: s\r\n\r\n"
CLOSE = (b"s\r\n", b"s\r\nConnection: close\r\n")


class Short:
    """Answers what begins with ``y`` and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[bytes, bytes], str, bytes]] = []

    def answer(
        self, path: str, headers: list[tuple[bytes, bytes]], peer: str, body: bytes
    ) -> bytes | None:
        self.asked.append((path, dict(headers), peer, body))
        if body == b"large":
            return b"content-length: 65536\r\n\r\n" + bytes(65536)
        return b"content-length: 5\r\n\r\nshort" if body.startswith(b"y") else None


def post(body: bytes, path: bytes = b"/predict") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


@pytest.fixture
def short() -> Short:
    return Short()


@pytest.fixture
def endpoint(short: Short) -> Iterator[Endpoint]:
    outboxes: list[Outbox] = []

    def connection(**shared: Any) -> PromptProtocol:
        outboxes.append(Outbox(asyncio.get_running_loop()))
        return PromptProtocol(short, outboxes[0], **shared)

    started = Endpoint(connection)
    yield started
    started.stop()


def test_short_answers_are_some_among_others(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        for request, body in (
            (post(b"yes"), b"short"),
            (GET, b"0"),
            (post(b"no"), b"2"),
            (post(b"yes", b"/other"), b"3"),
            (post(b"yes", b"/v1/predict"), b"short"),
            (post(b"yes", b"/predict?a=1"), b"3"),
            (GET.replace(b"/ ", b"/predict "), b"0"),
        ):
            client.sendall(request)
            assert one(client) == (200, body)
        yes = post(b"yes")
        client.sendall(yes * 3 + GET + yes + post(b"no") + yes + yes.replace(*CLOSE))
        bodies = [part.partition(b"\r\n\r\n")[2] for part in rest(client).split(b"HTTP/1.1 200 OK")]
    # Whether one that waits behind an ordinary one is short depends on how the bytes arrive.
    assert [bodies[n] for n in (0, 1, 2, 3, 4, 6, 8)] == [b"", *[b"short"] * 3, b"0", b"2", b"3"]
    assert {bodies[5], bodies[7]} <= {b"short", b"3"}
    assert endpoint.state.total_requests == 15


def test_what_the_short_way_is_told(endpoint: Endpoint, short: Short) -> None:
    with endpoint.connect() as client:
        request = post(b"yes").replace(b"Host: s", b"Host: s\r\nX-Api-Key: K")
        client.sendall(request)
        assert one(client) == (200, b"short")
    headers = {b"host": b"s", b"x-api-key": b"K", b"content-length": b"3"}
    assert short.asked == [("/predict", headers, "127.0.0.1", b"yes")]


@pytest.mark.parametrize("cut", [10, -5, -4, -1])
def test_a_request_may_arrive_in_pieces(endpoint: Endpoint, short: Short, cut: int) -> None:
    request = post(b"y234")
    with endpoint.connect() as client:
        for piece in (request[:cut], request[cut:]):
            client.sendall(piece)
            time.sleep(0.05)
        assert one(client) == (200, b"short")
    assert [body for *_, body in short.asked] == [b"y234"]


def test_a_chunked_body_is_put_together_and_its_trailers_are_no_headers(
    endpoint: Endpoint, short: Short
) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nye\r\n1\r\ns\r\n0\r\nX-Api-Key: K\r\n\r\n"
        )
        assert one(client) == (200, b"short")
    ((_, headers, _, body),) = short.asked
    assert body == b"yes"
    assert b"x-api-key" not in headers


@pytest.mark.parametrize("size", [16 * 1024, 17 * 1024, 300_000])
def test_a_large_body_goes_the_ordinary_way_whole(
    endpoint: Endpoint, short: Short, size: int
) -> None:
    with endpoint.connect() as client:
        client.sendall(post(bytes(size)))
        assert one(client) == (200, b"%d" % size)
        client.sendall(post(b"yes"))
        assert one(client) == (200, b"short")
    assert [len(body) for *_, body in short.asked] == ([size, 3] if size <= 16 * 1024 else [3])


@pytest.mark.parametrize(
    "change",
    [
        CLOSE,
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"s\r\n", b"s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
    ],
)
def test_what_ends_or_changes_the_connection_goes_the_ordinary_way(
    endpoint: Endpoint, short: Short, change: tuple[bytes, bytes]
) -> None:
    with endpoint.connect() as client:
        client.sendall(post(b"yes").replace(*change, 1))
        assert one(client) == (200, b"3")
    assert short.asked == []


def test_who_waits_for_100_continue_gets_it(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        head, body = post(b"yes")[:-3], b"yes"
        client.sendall(head.replace(b"s\r\n", b"s\r\nExpect: 100-continue\r\n", 1))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert one(client) == (200, b"3")


def test_a_short_answer_comes_before_what_is_said_of_the_bytes_after_it(
    endpoint: Endpoint,
) -> None:
    for together in (True, False) * 10:
        with endpoint.connect() as client:
            if together:
                client.sendall(post(b"yes") + b"no HTTP at all\r\n\r\n")
            else:
                client.sendall(post(b"yes"))
                client.sendall(b"no HTTP at all\r\n\r\n")
            first, *others = rest(client).split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200 OK")
        assert [other[:3] for other in others] == [b"400"]


def test_a_body_that_is_no_http_is_refused(endpoint: Endpoint, short: Short) -> None:
    with endpoint.connect() as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
        )
        assert rest(client).startswith(b"HTTP/1.1 400 ")
    assert short.asked == []


def test_the_end_of_the_service_loses_no_request(endpoint: Endpoint) -> None:
    request = post(b"yes")
    for cut in (*range(0, len(request), 16), len(request)):
        with endpoint.connect() as client:
            client.sendall(request[:cut])
            endpoint.part()
            client.sendall(request[cut:])
            # The last of a connection goes the ordinary way.
            assert rest(client)[-1:] in (b"t", b"3")


def test_a_short_answer_has_the_headers_of_the_server(endpoint: Endpoint) -> None:
    endpoint.state.default_headers = [(b"date", b"today")]
    with endpoint.connect() as client:
        client.sendall(post(b"yes"))
        assert client.recv(65536) == (
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 5\r\n\r\nshort"
        )


def test_a_slow_body_is_told_so(endpoint: Endpoint, short: Short) -> None:
    with endpoint.connect() as client:
        client.sendall(post(b"yes")[:-1])
        status, body = one(client)
        assert (status, json.loads(body)["code"]) == (408, "body-too-slow")
        assert rest(client) == b""
    assert short.asked == []


def test_a_client_that_leaves_in_the_middle_is_seen_by_the_application(
    endpoint: Endpoint, short: Short
) -> None:
    with endpoint.connect() as client:
        client.sendall(post(b"yes")[:-1])
        time.sleep(0.1)
    until = time.monotonic() + 5
    while not endpoint.app.seen and time.monotonic() < until:
        time.sleep(0.01)
    assert len(endpoint.app.seen) == 1
    assert short.asked == []


def test_a_busy_connection_is_not_taken_for_an_idle_one(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        began = time.monotonic()
        while time.monotonic() - began < 3 * LIMIT:
            client.sendall(post(b"yes"))
            assert one(client) == (200, b"short")
            time.sleep(LIMIT / 20)
        assert rest(client) == b""


def test_one_that_reads_no_answer_is_closed(endpoint: Endpoint) -> None:
    with endpoint.connect() as client, pytest.raises(ConnectionError):
        asked_for_ever(client)


def asked_for_ever(client: socket.socket) -> None:
    while True:
        client.sendall(post(b"large") * 10)
