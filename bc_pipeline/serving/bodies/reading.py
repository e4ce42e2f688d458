"""Take the body of a request, of which never more than a limit is kept.

Of a body that is still arriving little is held in memory: the rest waits in a temporary file
without a name, so that neither many slow clients nor a killed process leave anything behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from bc_pipeline.errors import BodyTooLarge, MediaTypeRefused, TransientError
from bc_pipeline.serving.exchange import first_header

RECORD_LIMIT = 1024 * 1024
# What one unfinished body may hold of the memory.
_IN_MEMORY = 64 * 1024
_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")

Headers = list[tuple[bytes, bytes]]


def require_json(headers: Headers) -> None:
    """Refuse a body that is not declared as JSON in UTF-8, or that is compressed.

    Raises
    ------
    MediaTypeRefused
    """
    declared = first_header(headers, b"content-type")
    if declared not in _JSON and not _is_json(declared or b""):
        raise MediaTypeRefused("Send the body as 'Content-Type: application/json', in UTF-8.")
    require_plain(headers)


def require_plain(headers: Headers) -> None:
    """Refuse a compressed body: a small one could become any size.

    Raises
    ------
    MediaTypeRefused
    """
    encoding = first_header(headers, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise MediaTypeRefused("Send the body without a Content-Encoding.")


def media_type(headers: Headers) -> str:
    """Declared type of the body, in lower case, without parameters."""
    declared = first_header(headers, b"content-type") or b""
    return declared.partition(b";")[0].strip().lower().decode("latin-1")


def _is_json(declared: bytes) -> bool:
    kind, _, parameters = declared.lower().partition(b";")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    return kind.strip() == b"application/json" and charset in (b"", b"utf-8")


async def read_body(receive: Receive, headers: Headers, limit: int = RECORD_LIMIT) -> bytes:
    """The whole body.

    Raises
    ------
    BodyTooLarge
        Before the body is read where its declared length says so.
    TransientError
        Where the disk for temporary files is full.
    """
    message = await _first(receive, headers, limit)
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(first) > limit:
            raise _too_large(limit)
        return first
    with disk_needed(), _kept() as kept:
        kept.write(first)
        async for part in _rest(receive, len(first), limit):
            kept.write(part)
        kept.seek(0)
        return kept.read()


@asynccontextmanager
async def stored_body(receive: Receive, headers: Headers, limit: int) -> AsyncIterator[IO[bytes]]:
    """The whole body as a file, for a large one that is read once its turn has come.

    Raises
    ------
    BodyTooLarge
    TransientError
        Where the disk for temporary files is full.
    """
    with _kept() as kept:
        with disk_needed():
            async for part in stream_body(receive, headers, limit):
                kept.write(part)
            kept.seek(0)
        yield kept


def _kept() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)


@contextmanager
def disk_needed() -> Iterator[None]:
    """Tell a client of a full disk to come again."""
    try:
        yield
    except OSError as error:
        raise TransientError(
            f"The body cannot be stored: {error.strerror}.", "Try again."
        ) from None


async def stream_body(receive: Receive, headers: Headers, limit: int) -> AsyncIterator[bytes]:
    """The body in parts, for what is written to a file.

    Raises
    ------
    BodyTooLarge
    """
    message = await _first(receive, headers, limit)
    first: bytes = message.get("body", b"")
    if len(first) > limit:
        raise _too_large(limit)
    yield first
    if message.get("more_body", False):
        async for part in _rest(receive, len(first), limit):
            yield part


async def _first(receive: Receive, headers: Headers, limit: int) -> Message:
    """The first part of a body whose declared length is within the limit."""
    declared = first_header(headers, b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


async def _rest(receive: Receive, size: int, limit: int) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        yield part
        if not message.get("more_body", False):
            return


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may hold {limit} bytes.", limit=limit)
