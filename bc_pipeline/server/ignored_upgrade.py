"""Continue with HTTP/1.1 after a request that offered to upgrade to another protocol.

A server may ignore such an offer (RFC 9110, 7.8) and answer the request as usual; its body
stays its body. httptools assumes that every offer is accepted: it ends the message after the
headers and would parse the body as another request. Browsers offer an upgrade for WebSockets,
and Java's HTTP client on every connection that is not encrypted.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING = (b"content-length", b"transfer-encoding")


class IgnoredUpgrade:
    """Creates a parser that is positioned after the headers of a request with an upgrade.

    The parser is fed a head with the same framing headers. Its callbacks reach the protocol
    only from the body on: the protocol has handled the original head already.

    Attributes
    ----------
    parser : httptools.HttpRequestParser
        Replaces the protocol's parser.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._replaying = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete
        self.parser = httptools.HttpRequestParser(self)

    def replay_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Feed the parser up to where the body of the request begins, if it has one.

        Raises
        ------
        httptools.HttpParserError
            Where the headers do not determine how long the body is.
        """
        lines = [b"%s: %s\r\n" % pair for pair in headers if pair[0] in _FRAMING]
        self.parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")))

    def on_message_begin(self) -> None:
        if not self._replaying:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._replaying:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._replaying:
            self._protocol.on_headers_complete()
        self._replaying = False
