"""Heads that two servers may read in different ways, on a socket, through both protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from bc_pipeline.server.fast_path_protocol import FastPathProtocol
from bc_pipeline.server.http_protocol import HEADER_LIMIT, HttpProtocol
from bc_pipeline.server.request_head import is_host
from bc_pipeline.server.write_batcher import WriteBatcher
from tests.unit.server.test_fast_path_protocol import FakeFastPath
from tests.unit.server.test_http_protocol import Endpoint, parse_problem, read_answer, read_to_end

LINE = b"POST /predict HTTP/1.1\r\n"
HOST = LINE + b"Host: s\r\n"


def fast(**options: Any) -> FastPathProtocol:
    return FastPathProtocol(FakeFastPath(), WriteBatcher(asyncio.get_running_loop()), **options)


@pytest.fixture(params=[HttpProtocol, fast], ids=["plain", "fast"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    started = Endpoint(request.param)
    yield started
    started.stop()


REFUSED = {
    "no host": (LINE + b"\r\n", 400),
    "two hosts": (HOST + b"Host: t\r\n\r\n", 400),
    "the same host twice": (HOST + b"host: s\r\n\r\n", 400),
    "two hosts in 1.0": (b"GET / HTTP/1.0\r\nHost: s\r\nHost: s\r\n\r\n", 400),
    "empty host": (LINE + b"Host:\r\n\r\n", 400),
    "host of spaces": (LINE + b"Host:  \t \r\n\r\n", 400),
    "host with a path": (LINE + b"Host: s/x\r\n\r\n", 400),
    "host with a user": (LINE + b"Host: a@s\r\n\r\n", 400),
    "host with a space": (LINE + b"Host: s t\r\n\r\n", 400),
    "list of hosts": (LINE + b"Host: s,t\r\n\r\n", 400),
    "port that is no number": (LINE + b"Host: s:http\r\n\r\n", 400),
    "host beyond ASCII": (LINE + b"Host: \xc3\xa9\r\n\r\n", 400),
    "gzip, chunked": (HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "gzip": (HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "identity": (HOST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "chunked, gzip": (HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 501),
    "chunked twice": (HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 501),
    "chunked on two lines": (HOST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", 501),
    "gzip on a line before": (
        HOST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        501,
    ),
    "xchunked": (HOST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    "coding with parameter": (HOST + b"Transfer-Encoding: chunked;a=b\r\n\r\n", 501),
    "no coding": (HOST + b"Transfer-Encoding:\r\n\r\n", 501),
    "coding in 1.0": (
        b"POST / HTTP/1.0\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "length and coding": (HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "coding and length": (HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    "length of 2**64": (HOST + b"Content-Length: 18446744073709551616\r\n\r\n", 413),
    "length of 50 digits": (HOST + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n", 413),
    "two lengths": (HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nyes", 400),
    "list of lengths": (HOST + b"Content-Length: 3, 3\r\n\r\nyes", 400),
    "length with plus": (HOST + b"Content-Length: +3\r\n\r\nyes", 400),
    "length with minus": (HOST + b"Content-Length: -3\r\n\r\nyes", 400),
    "hexadecimal length": (HOST + b"Content-Length: 0x3\r\n\r\nyes", 400),
    "length with fraction": (HOST + b"Content-Length: 3.0\r\n\r\nyes", 400),
    "length with underscore": (HOST + b"Content-Length: 1_0\r\n\r\nyes", 400),
    "empty length": (HOST + b"Content-Length:\r\n\r\nyes", 400),
    "space before the colon": (HOST + b"Content-Length : 3\r\n\r\nyes", 400),
    "space before a name": (LINE + b" Host: s\r\n\r\n", 400),
    "folded line": (HOST + b"X-A: b\r\n c\r\n\r\n", 400),
    "NUL in a value": (HOST + b"X-A: b\0c\r\n\r\n", 400),
    "NUL in a name": (HOST + b"X\0A: b\r\n\r\n", 400),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "no colon": (HOST + b"X-A\r\n\r\n", 400),
    "no name": (HOST + b": x\r\n\r\n", 400),
    "name beyond ASCII": (HOST + b"\xc3\xa9: x\r\n\r\n", 400),
    "LF alone": (HOST + b"X-A: b\nX-B: c\r\n\r\n", 400),
    "CR alone": (HOST + b"X-A: b\rX-B: c\r\n\r\n", 400),
    "LF after the request line": (b"GET / HTTP/1.1\nHost: s\r\n\r\n", 400),
    "target beyond ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "target without slash": (b"GET predict HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "asterisk for a GET": (b"GET * HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "another scheme": (b"GET ftp://s/ HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "address without host": (b"GET http:///x HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "address with half a host": (b"GET http://[::1/x HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "proxied connection": (b"CONNECT s:443 HTTP/1.1\r\nHost: s\r\n\r\n", 501),
    "unknown method": (b"FETCH / HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "small letters": (b"get / HTTP/1.1\r\nHost: s\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: s\r\n\r\n", 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: s\r\n\r\n", 505),
    "long target": (b"GET /" + b"x" * 2 * HEADER_LIMIT + b" HTTP/1.1\r\nHost: s\r\n\r\n", 414),
    "long header": (HOST + b"X-A: " + b"x" * 2 * HEADER_LIMIT + b"\r\n\r\n", 431),
    "many headers": (HOST + b"X-A: b\r\n" * HEADER_LIMIT + b"\r\n", 431),
}
ANSWERED = {
    "1.0 without host": (b"GET / HTTP/1.0\r\n\r\n", "/"),
    "host with port": (b"GET /a HTTP/1.1\r\nHost: s:8000\r\n\r\n", "/a"),
    "host in brackets": (b"GET /a HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", "/a"),
    "whole address": (b"GET http://s/a HTTP/1.1\r\nHost: s\r\n\r\n", "/a"),
    "whole address with query": (b"GET http://s/a?b=c HTTP/1.1\r\nHost: s\r\n\r\n", "/a"),
    "whole address without path": (b"GET http://s HTTP/1.1\r\nHost: s\r\n\r\n", "/"),
    "address with query alone": (b"GET HTTPS://s?b HTTP/1.1\r\nHost: s\r\n\r\n", "/"),
    "asterisk for OPTIONS": (b"OPTIONS * HTTP/1.1\r\nHost: s\r\n\r\n", "*"),
    "capitals": (
        b"POST /a HTTP/1.1\r\nHOST: s\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n",
        "/a",
    ),
    "zeros before a length": (
        b"POST /a HTTP/1.1\r\nHost: s\r\nContent-Length: " + b"0" * 9000 + b"3\r\n\r\nabc",
        "/a",
    ),
    "blanks around a length": (
        b"POST /a HTTP/1.1\r\nHost: s\r\nContent-Length:  3 \r\n\r\nabc",
        "/a",
    ),
    "a host in a trailer": (
        b"POST /a HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: t\r\n\r\n",
        "/a",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_doubtful_head_is_refused_at_once(endpoint: Endpoint, name: str) -> None:
    data, expected = REFUSED[name]
    with endpoint.connect() as client:
        # Nothing else is sent, and the connection stays open on this side.
        client.sendall(data)
        status, content = parse_problem(read_to_end(client))
    assert status == content["status"] == expected
    assert content["detail"]
    assert endpoint.app.paths == []


@pytest.mark.parametrize("name", ANSWERED)
def test_an_unusual_but_certain_head_is_answered(endpoint: Endpoint, name: str) -> None:
    data, path = ANSWERED[name]
    with endpoint.connect() as client:
        client.sendall(data)
        assert read_answer(client)[0] == 200
    assert endpoint.app.paths == [path]


def test_a_request_before_a_refused_one_is_answered(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: s\r\n\r\n" + LINE + b"\r\n")
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert endpoint.app.paths == ["/a"]


def test_a_chunk_of_impossible_size_is_refused_at_once(endpoint: Endpoint) -> None:
    with endpoint.connect() as client:
        client.sendall(HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n")
        assert parse_problem(read_to_end(client))[0] == 413


def test_a_length_beyond_the_fast_path_reaches_the_application_at_once() -> None:
    called = []

    def protocol(**options: Any) -> FastPathProtocol:
        connection = fast(**options)
        started = connection._begin_request

        def begin_request() -> None:
            called.append(1)
            started()

        # Replaced on one object, to count its calls.
        connection._begin_request = begin_request  # type: ignore[method-assign]
        return connection

    endpoint = Endpoint(protocol)
    try:
        with endpoint.connect() as client:
            client.sendall(HOST + b"Content-Length: 9223372036854775808\r\n\r\n")
            # The fake application waits for the body, the real one refuses the length.
            assert read_answer(client)[0] == 408
    finally:
        endpoint.stop()
    assert called == [1]
    assert endpoint.app.paths == ["/predict"]


@pytest.mark.parametrize(
    "callback", ["on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"]
)
def test_an_unexpected_error_in_a_callback_is_no_fault_of_the_client(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, callback: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("canary")

    for kind in (FastPathProtocol, HttpProtocol):
        monkeypatch.setattr(kind, callback, fail)
    with capture_logs() as lines, endpoint.connect() as client:
        client.sendall(HOST + b"Content-Length: 3\r\n\r\nyes")
        status, content = parse_problem(read_to_end(client))
    assert (status, content["code"]) == (500, "pipeline-error")
    (line,) = [line for line in lines if line["event"] == "connection_failed"]
    assert line["error"].startswith("RuntimeError at ")
    assert "canary" not in f"{line}{content}"


def test_hosts() -> None:
    good = [b"s", b"a-b.c_d", b"127.0.0.1:1", b"[::1]", b"[::ffff:1.2.3.4]:80", b"a%20b", b"s:"]
    bad = [b"", b":1", b"[::1", b"::1", b"[x]", b"a b", b"a/b", b"a?b", b"a#b", b"a%2", b"s:1:2"]
    assert [host for host in good if not is_host(host)] == []
    assert [host for host in bad if is_host(host)] == []
