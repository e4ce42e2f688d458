"""Access to the raw headers of a request."""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]


def first_header(headers: Headers, name: bytes) -> bytes | None:
    """Value of a header; None where it is missing."""
    for key, value in headers:
        if key == name:
            return value
    return None
