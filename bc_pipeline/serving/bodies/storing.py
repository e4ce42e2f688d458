"""Keep an upload in a temporary file while it is read: CSV as the body, or as a form's file.

The file has no name that could outlive the process; its readers open it by its descriptor.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from bc_pipeline.errors import BodyUnreadable, MediaTypeRefused
from bc_pipeline.serving.bodies.reading import (
    disk_needed,
    media_type,
    require_plain,
    stream_body,
)
from bc_pipeline.serving.exchange import first_header, headers_of

CSV = "text/csv"
FORM = "multipart/form-data"
FIELD = "file"
# Schema of such a form, for the documentation.
UPLOAD = {
    "type": "object",
    "required": [FIELD],
    "properties": {FIELD: {"type": "string", "format": "binary"}},
}


@asynccontextmanager
async def stored_csv(request: Request, limit: int) -> AsyncIterator[Path]:
    """The CSV of a request as a file that only this process can read.

    Raises
    ------
    MediaTypeRefused
        Where the body is neither CSV nor a form.
    BodyTooLarge
    BodyUnreadable
        Where a form is malformed or has not exactly one file in the field ``file``.
    TransientError
        Where the disk for temporary files is full.
    """
    headers = headers_of(request.scope)
    require_plain(headers)
    kind = media_type(headers)
    if kind not in (CSV, FORM):
        raise MediaTypeRefused(f"Send CSV as '{CSV}', or as the file '{FIELD}' of a form.")
    with tempfile.TemporaryFile() as stream:
        with disk_needed():
            write = stream.write
            form = (
                _Form(first_header(headers, b"content-type") or b"", write)
                if kind == FORM
                else None
            )
            async for part in stream_body(request.receive, headers, limit):
                if form is None:
                    write(part)
                else:
                    form.feed(part)
            if form is not None:
                form.end()
            stream.flush()
        yield Path(f"/proc/self/fd/{stream.fileno()}")


class _Form:
    """Finds the one file of a form, and hands its bytes on as they come."""

    def __init__(self, content_type: bytes, write: Callable[[bytes], object]) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise BodyUnreadable("The form names no boundary.")
        self._write = write
        self._files = 0
        self._ended = False
        self._name = b""
        self._value = b""
        self._is_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_end": self._finish,
            },
        )

    def feed(self, part: bytes) -> None:
        try:
            self._parser.write(part)
        except MultipartParseError:
            raise BodyUnreadable("The form is malformed.") from None

    def end(self) -> None:
        if not self._ended:
            raise BodyUnreadable("The form ends too early.")
        if self._files != 1:
            raise BodyUnreadable(f"The form must hold one file, in the field '{FIELD}'.")

    def _begin(self) -> None:
        self._is_file = False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            if options.get(b"name") == FIELD.encode() and b"filename" in options:
                self._is_file = True
                self._files += 1
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        # A second file is refused at the end; it must not be mixed into the first.
        if self._is_file and self._files == 1:
            self._write(data[start:end])

    def _finish(self) -> None:
        self._ended = True
