"""Choice of a media type by the ``Accept`` header."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from bc_pipeline.serving.request_context import context_of

# More than any client sends; the rest of a longer header is ignored.
_MOST_RANGES = 32


def negotiate(request: Request, offered: Sequence[str]) -> str:
    """`preferred_type` of a request; its response, also an error, then has ``Vary: Accept``."""
    context_of(request).negotiated = True
    return preferred_type(request.headers.get("accept", ""), offered)


def preferred_type(accept: str, offered: Sequence[str]) -> str:
    """The offered media type that a client prefers; among equals the first one offered.

    A client that accepts none of them gets the first, which serves it better than an error.

    Parameters
    ----------
    accept : str
        The header; empty where there is none.
    offered : sequence of str
        Media types, the default first.
    """
    ranges = [_parse_range(part) for part in accept.split(",", _MOST_RANGES)[:_MOST_RANGES]]
    best, best_quality = offered[0], 0.0
    for media_type in offered:
        # The most specific range that matches decides (RFC 9110, 12.5.1).
        matches = [(len(name), quality) for name, quality in ranges if _matches(name, media_type)]
        quality = max(matches)[1] if matches else 0.0
        if quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _parse_range(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return name, quality if 0.0 <= quality <= 1.0 else 0.0


def _matches(name: str, media_type: str) -> bool:
    return name in (media_type, "*/*", media_type.partition("/")[0] + "/*")
