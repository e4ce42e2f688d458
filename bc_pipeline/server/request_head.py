"""Checks of a request's head that the parser does not make (RFC 9110 and 9112).

A proxy in front may read a doubtful head in another way than this server, so that one request
becomes two, or goes to another host; such a head is refused instead of interpreted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus

import httptools

from bc_pipeline.server.application import Headers

_CHECKED = frozenset({b"host", b"transfer-encoding", b"content-length"})
_USUAL_DIGITS = 24
_VERSIONS = frozenset({"1.0", "1.1"})
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+(?::[0-9]*)?"
    rb"|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
)


class HeadRefused(Exception):
    """A request that is answered with an error as soon as its head is known."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def check_head(headers: Headers, version: str) -> int:
    """Check the version and the headers that say where a request ends and whom it is for.

    Parameters
    ----------
    headers : list of pairs of bytes
        With lower-case names. The parser has refused several lengths, lengths that are not
        numbers, and a length beside a Transfer-Encoding.
    version : str
        Such as ``1.1``.

    Returns
    -------
    int
        The declared length of the body in bytes; 0 where there is none.

    Raises
    ------
    HeadRefused
    """
    if version not in _VERSIONS:
        raise HeadRefused(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The server speaks HTTP/1.1 and HTTP/1.0."
        )
    hosts = length = 0
    for name, value in headers:
        if name not in _CHECKED:
            continue
        if name == b"content-length":
            # `int` refuses thousands of digits, leading zeros too.
            length = int(value if len(value) < _USUAL_DIGITS else value.lstrip(b"0") or b"0")
        elif name == b"transfer-encoding":
            _check_coding(value, version)
        else:
            hosts += 1
            if not is_host(value):
                raise HeadRefused(
                    HTTPStatus.BAD_REQUEST, "The Host header is not the name of a host."
                )
    if hosts != 1 and (hosts or version == "1.1"):
        raise HeadRefused(HTTPStatus.BAD_REQUEST, "A request has exactly one Host header.")
    return length


def _check_coding(value: bytes, version: str) -> None:
    if version == "1.0":
        raise HeadRefused(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding.")
    if value.strip().lower() != b"chunked":
        raise unknown_coding()


def unknown_coding() -> HeadRefused:
    return HeadRefused(
        HTTPStatus.NOT_IMPLEMENTED, "The only Transfer-Encoding that the server reads is chunked."
    )


@lru_cache(256)
def is_host(value: bytes) -> bool:
    """Whether a Host header names a host; an empty one names none."""
    return _HOST.fullmatch(value.strip(b" \t")) is not None


def origin_form(target: bytes, method: bytes) -> bytes:
    """A request's target as a path with its query, whichever form it has (RFC 9112, 3.2).

    Raises
    ------
    HeadRefused
        Where the target is one for a proxy.
    httptools.HttpParserInvalidURLError
    """
    if target == b"*" and method == b"OPTIONS":
        return target
    if method == b"CONNECT":
        raise HeadRefused(HTTPStatus.NOT_IMPLEMENTED, "The server is no proxy.")
    url = httptools.parse_url(target)
    if (url.schema or b"").lower() not in (b"http", b"https") or not url.host:
        raise HeadRefused(
            HTTPStatus.BAD_REQUEST, "The target of a request is a path, or an http address."
        )
    path = url.path or b"/"
    return path if url.query is None else b"%s?%s" % (path, url.query)


def of_parser_error(reason: str) -> HeadRefused:
    """The answer to what the parser refuses, by the parser's reason."""
    if reason in ("Content-Length overflow", "Chunk size overflow"):
        return HeadRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "No body may be so large.")
    if "Transfer-Encoding" in reason and "can't be present" not in reason:
        return unknown_coding()
    return HeadRefused(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")
