"""What a client would rather have, by its ``Accept`` header."""

from __future__ import annotations

from collections.abc import Sequence

# Far more than any client sends; the rest of a longer header is not read.
_RANGES = 32


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The offered media type that a client likes best; of equals the first one offered.

    A client that takes none of them gets the first: its answer is better than an error.

    Parameters
    ----------
    accept : str
        The header; empty where there is none.
    offered : sequence of str
        Media types, the default first.
    """
    ranges = [_range(part) for part in accept.split(",", _RANGES)[:_RANGES]]
    best, liked = offered[0], 0.0
    for kind in offered:
        # The most exact range that fits decides (RFC 9110, 12.5.1).
        fits = [(len(name), weight) for name, weight in ranges if _fits(name, kind)]
        weight = max(fits)[1] if fits else 0.0
        if weight > liked:
            best, liked = kind, weight
    return best


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name, weight if 0.0 <= weight <= 1.0 else 0.0


def _fits(name: str, kind: str) -> bool:
    return name in (kind, "*/*", kind.partition("/")[0] + "/*")
