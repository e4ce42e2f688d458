"""Build responses that are no problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


def json_answer(
    content: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """JSON of plain values or msgspec structs."""
    return Response(_encoder.encode(content), status, headers, "application/json")
