"""Stores an uploaded CSV, which is the body or a form's file, in a temporary file.

The file has no name, so that a killed process leaves none behind; readers open its descriptor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from bc_pipeline.errors import BodyUnreadable, MediaTypeRefused
from bc_pipeline.serving.request_parsing.body_stream import (
    CSV_TYPES,
    WORKBOOK,
    disk_errors_as_transient,
    media_type,
    require_uncompressed,
    stored_body,
    stream_body,
)

CSV = "text/csv"
FORM = "multipart/form-data"
FIELD = "file"
JSON_OR_CSV = (
    f"Send JSON as 'application/json', CSV as '{CSV}', or CSV as the file '{FIELD}' of a '{FORM}'."
)
# JSON schema of the form, for the OpenAPI document.
UPLOAD = {
    "type": "object",
    "required": [FIELD],
    "properties": {FIELD: {"type": "string", "format": "binary"}},
}


@asynccontextmanager
async def stored_csv(request: Request, limit: int) -> AsyncIterator[Path]:
    """The CSV of a request as the path of an unnamed temporary file.

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
    headers = request.headers.raw
    require_uncompressed(headers)
    kind = media_type(headers)
    if kind.startswith(WORKBOOK):
        raise MediaTypeRefused("Excel workbooks are not read: save it as CSV (UTF-8).")
    if kind not in (*CSV_TYPES, FORM):
        raise MediaTypeRefused(f"Send CSV as '{CSV}', or as the file '{FIELD}' of a form.")
    async with (form_file if kind == FORM else stored_body)(request, limit) as stored:
        with disk_errors_as_transient():
            # Writes what is still in memory.
            descriptor = stored.fileno()
            stored.flush()
        yield Path(f"/proc/self/fd/{descriptor}")


@asynccontextmanager
async def form_file(request: Request, limit: int) -> AsyncIterator[IO[bytes]]:
    """The one file of a form."""
    parser = MultiPartParser(request.headers, stream_body(request, limit))
    try:
        with disk_errors_as_transient():
            form = await parser.parse()
        files = [part for part in form.getlist(FIELD) if isinstance(part, UploadFile)]
        if len(files) != 1:
            raise BodyUnreadable(f"The form must hold one file, in the field '{FIELD}'.")
        yield files[0].file
    except MultiPartException:
        raise BodyUnreadable("The form is malformed.") from None
    finally:
        # Also those of parts that did not end, which are not in the form.
        for file in parser._files_to_close_on_error:
            file.close()
