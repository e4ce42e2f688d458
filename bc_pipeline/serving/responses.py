"""Responses other than errors, and the headers of all responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from pydantic import BaseModel
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


def _model_fields(value: Any) -> dict[str, Any]:
    """Fields of a pydantic model, in their order; msgspec calls it for types it does not know."""
    if isinstance(value, BaseModel):
        return vars(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_model_fields)


def json_response(
    content: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """JSON of plain values, msgspec structs or pydantic models."""
    return Response(_encoder.encode(content), status, headers, "application/json")


def security_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    """Headers that restrict what browsers do with a response."""
    return [*_SECURITY, *([_STRICT_TRANSPORT] if settings.tls_cert_file is not None else [])]
