"""One answered prediction, and the ids that predictions have."""

from __future__ import annotations

import os
import re
import time

import msgspec

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_STOCK = 256
_WITH_VERSION = bytes(0x70 | byte & 0x0F for byte in range(256))
_WITH_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))
_tails: list[str] = []


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of an answered prediction.

    The order of the fields is the format of the log: new ones go to the end.

    Attributes
    ----------
    id : str
        See `new_id`.
    at : float
        When it was answered, seconds since 1970.
    version, manifest_sha256 : str
        The model version and the digest of its manifest.
    probability : float
        Calibrated probability of the positive class.
    positive : bool
        The decision.
    latency : float
        Seconds from the request to the answer.
    caller : str
        Name of the key or token subject that asked.
    route : str
        Template of the route that answered.
    values : bytes
        The features in the schema's order, little-endian float64.
    sample_id : str or None
        The client's own name for the record; it may identify a patient.
    """

    id: str
    at: float
    version: str
    manifest_sha256: str
    probability: float
    positive: bool
    latency: float
    caller: str
    route: str
    values: bytes
    sample_id: str | None


def new_id() -> str:
    """Make a UUID of version 7 (RFC 9562): the time in milliseconds, then 74 random bits."""
    if not _tails:
        _restock()
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}{_tails.pop()}"


def _restock() -> None:
    """Make the ends of many ids at once: asking the system for each would be most of the cost."""
    middle = bytearray(os.urandom(4 * _STOCK))
    middle[0::4] = middle[0::4].translate(_WITH_VERSION)
    middle[2::4] = middle[2::4].translate(_WITH_VARIANT)
    groups = middle.hex("-", 2).split("-")
    nodes = os.urandom(6 * _STOCK).hex("-", 6).split("-")
    _tails.extend(
        f"-{version}-{variant}-{node}"
        for version, variant, node in zip(groups[0::2], groups[1::2], nodes, strict=True)
    )


# A forked process must not hand out the ids that its parent holds in stock.
os.register_at_fork(after_in_child=_tails.clear)


def is_id(text: str) -> bool:
    """Whether a text is an id that `new_id` may have made."""
    return _ID.fullmatch(text) is not None


def time_of(prediction_id: str) -> float:
    """When an id was made, seconds since 1970."""
    return int(prediction_id[:8] + prediction_id[9:13], 16) / 1000


def first_id(moment: float) -> str:
    """The lowest id of a moment: ids sort by time, so ranges of time are ranges of ids."""
    digits = f"{max(0, round(moment * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"
