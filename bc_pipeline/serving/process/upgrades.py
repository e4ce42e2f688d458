"""Going on with HTTP/1.1 after a request that offered to go on with another protocol.

A server may decline such an offer by answering as if it had not been made (RFC 9110, 7.8),
and the body of the request stays its body. The parser takes an upgrade for granted: it ends
the message at its head, and would read the body as another request. Browsers offer one for
WebSockets, and Java's own client on every connection that is not encrypted.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING = (b"content-length", b"transfer-encoding")


class Continued:
    """Stands between a protocol and a parser that has to be brought behind a head.

    Attributes
    ----------
    parser : httptools.HttpRequestParser
        To be used by the protocol from now on.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        # The protocol knows the head that is read first.
        self._known = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete
        self.parser = httptools.HttpRequestParser(self)

    def read_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Bring the parser to where the body of the request begins, if it has one.

        Raises
        ------
        httptools.HttpParserError
            Where the headers do not tell how long the body is.
        """
        lines = [b"%s: %s\r\n" % pair for pair in headers if pair[0] in _FRAMING]
        self.parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")))

    def on_message_begin(self) -> None:
        if not self._known:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._known:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._known:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._known:
            self._protocol.on_headers_complete()
        self._known = False
