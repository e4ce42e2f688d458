"""Build responses that are no problems, and headers that all responses carry."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from bc_pipeline.settings import Settings

JSON_TYPE = (b"content-type", b"application/json")
_SECURITY = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_encoder = msgspec.json.Encoder()


def json_answer(
    content: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """JSON of plain values or msgspec structs."""
    return Response(_encoder.encode(content), status, headers, "application/json")


def security_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    """What keeps browsers from doing with an answer what they should not."""
    return [*_SECURITY, *([_STRICT_TRANSPORT] if settings.tls_cert_file is not None else [])]
