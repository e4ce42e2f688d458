"""Receives the body of a request, up to a size limit, and has a large one parsed in a thread.

A body that is still arriving is spooled to an unnamed temporary file, so that many slow clients
take little memory and a killed process leaves no file behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import IO, TypeVar

from starlette.requests import Request

from bc_pipeline.errors import BodyTooLarge, MediaTypeRefused, PipelineError, TransientError
from bc_pipeline.serving.headers import Headers, first_header

RECORD_LIMIT = 1 << 20
# Limit of a body of outcome reports: the largest allowed number of them, with every field, fits.
REPORT_LIMIT = 4 << 20
# A smaller body is parsed in less time than a thread takes to start.
_INLINE_BYTES = 16 * 1024
# A smaller body stays in memory while it arrives, and a fast parser takes a millisecond for it.
FAST_BYTES = 128 * 1024
# Media types that clients declare for CSV; browsers on Windows declare that of Excel.
CSV_TYPES = (
    "text/csv",
    "application/csv",
    "text/x-csv",
    "application/x-csv",
    "text/comma-separated-values",
    "application/vnd.ms-excel",
)
WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")

Parsed = TypeVar("Parsed")


def require_json(headers: Headers) -> None:
    """Refuse a body that is not declared as JSON in UTF-8, or that is compressed.

    Raises
    ------
    MediaTypeRefused
    """
    declared = first_header(headers, b"content-type")
    if media_type(headers).startswith(WORKBOOK):
        raise MediaTypeRefused("Excel workbooks are not read: save it as CSV (UTF-8).")
    if declared not in _JSON and not _is_json(declared or b""):
        raise MediaTypeRefused("Send the body as 'Content-Type: application/json', in UTF-8.")
    require_uncompressed(headers)


def require_uncompressed(headers: Headers) -> None:
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


async def read_body(request: Request, limit: int = RECORD_LIMIT) -> bytes:
    """The whole body.

    Raises
    ------
    BodyTooLarge, TransientError
        As `stored_body`.
    """
    async with stored_body(request, limit) as stored:
        return stored.read()


@asynccontextmanager
async def stored_body(request: Request, limit: int) -> AsyncIterator[IO[bytes]]:
    """The whole body as a file, for a large one that is parsed later.

    Raises
    ------
    BodyTooLarge
        Before the body is read where its declared length says so.
    TransientError
        Where the disk for temporary files is full.
    """
    with tempfile.SpooledTemporaryFile(FAST_BYTES) as spool:
        with disk_errors_as_transient():
            async for part in stream_body(request, limit):
                spool.write(part)
            spool.seek(0)
        yield spool


@contextmanager
def disk_errors_as_transient() -> Iterator[None]:
    """Raise `TransientError` where the disk for temporary files is full."""
    try:
        yield
    except OSError as error:
        raise TransientError(
            f"The body cannot be stored: {error.strerror}.", "Try again."
        ) from None


async def stream_body(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body in parts as they arrive.

    Raises
    ------
    BodyTooLarge
    """
    too_large = BodyTooLarge(f"The body may hold {limit} bytes.", limit=limit)
    if _declared_size(request) > limit:
        raise too_large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        yield part


def require_possible_size(request: Request, upload_limit: int) -> None:
    """Refuse a declared size that no route reads, whether or not this one reads a body.

    Raises
    ------
    BodyTooLarge
    """
    limit = max(upload_limit, REPORT_LIMIT)
    if _declared_size(request) > limit:
        raise BodyTooLarge(f"The body may hold {limit} bytes.", limit=limit)


def _declared_size(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    # More digits than a body has bytes are not converted.
    return int(declared[:20]) if declared.isdigit() else 0


def read_small(stored: IO[bytes]) -> bytes | None:
    """The body if it is small enough for a fast parser; None, and at its start, otherwise."""
    body = stored.read(FAST_BYTES)
    if len(body) < FAST_BYTES:
        return body
    stored.seek(0)
    return None


async def parse_stored(
    stored: IO[bytes],
    parse: Callable[[bytes], Parsed],
    parse_fast: Callable[[bytes], Parsed | None] | None = None,
) -> Parsed:
    """Parse a stored body; a large one is read and parsed in another thread.

    Parameters
    ----------
    parse_fast : callable or None
        Tried first, on the event loop, for a body of `FAST_BYTES` at most; it returns None for
        what `parse` has to decide.
    """
    body = read_small(stored)
    if body is not None:
        parsed = parse_fast(body) if parse_fast is not None else None
        if parsed is not None:
            return parsed
        if len(body) < _INLINE_BYTES:
            return parse(body)
    stored.seek(0)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _parser_thread(), release_memory_after, lambda: parse(stored.read())
    )


@cache
def _parser_thread() -> ThreadPoolExecutor:
    """A single thread, so that only one large body is in memory at a time."""
    return ThreadPoolExecutor(1, "bodies")


def release_memory_after(parse: Callable[[], Parsed]) -> Parsed:
    """Parse a large body, then return to the system the freed memory that malloc retains."""
    refusal: PipelineError | None = None
    try:
        parsed = parse()
    except PipelineError as error:
        # The frames of its traceback hold the parsed content.
        refusal = error.with_traceback(None)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    if refusal is not None:
        raise refusal
    return parsed
