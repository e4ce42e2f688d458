"""The log entry of one answered prediction, and prediction ids."""

from __future__ import annotations

import os
import re
import time

import msgspec

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_REFILL_COUNT = 256
_WITH_VERSION = bytes(0x70 | byte & 0x0F for byte in range(256))
_WITH_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))
_random_suffixes: list[str] = []


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The recorded fields of an answered prediction, without its inputs.

    Attributes
    ----------
    id : str
        See `new_id`.
    at : float
        Time of the answer, seconds since 1970.
    version, manifest_sha256 : str
        The model version and the digest of its manifest.
    probability : float
        Calibrated probability of the positive class.
    positive : bool
        The decision.
    latency : float
        Seconds from the request to the answer.
    caller : str
        Name of the API key, or subject of the token.
    route : str
        Name of the route that answered.
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


class LogEntry(Answer, frozen=True):
    """The recorded fields of an answered prediction.

    Fields are stored by position: new ones go to the end.

    Attributes
    ----------
    values : bytes
        The features in the schema's order, little-endian float64.
    sample_id : str or None
        The client's id of the sample; it may identify a patient.
    """

    values: bytes
    sample_id: str | None


def new_id() -> str:
    """Make a UUID of version 7 (RFC 9562): the time in milliseconds, then 74 random bits."""
    if not _random_suffixes:
        _refill_suffixes()
    return _time_prefix() + _random_suffixes.pop()


def new_ids(count: int) -> list[str]:
    """Make ids of one time, as `new_id`."""
    while len(_random_suffixes) < count:
        _refill_suffixes()
    prefix = _time_prefix()
    return [prefix + _random_suffixes.pop() for _ in range(count)]


def _time_prefix() -> str:
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}"


def _refill_suffixes() -> None:
    """Generate many suffixes with one system call, which is most of an id's cost."""
    middle = bytearray(os.urandom(4 * _REFILL_COUNT))
    middle[0::4] = middle[0::4].translate(_WITH_VERSION)
    middle[2::4] = middle[2::4].translate(_WITH_VARIANT)
    groups = middle.hex("-", 2).split("-")
    nodes = os.urandom(6 * _REFILL_COUNT).hex("-", 6).split("-")
    _random_suffixes.extend(
        f"-{version}-{variant}-{node}"
        for version, variant, node in zip(groups[0::2], groups[1::2], nodes, strict=True)
    )


# A forked process must not reuse the suffixes that its parent has generated.
os.register_at_fork(after_in_child=_random_suffixes.clear)


def is_id(text: str) -> bool:
    """Return whether a text has the form of an id of `new_id`."""
    return _ID.fullmatch(text) is not None


def canonical_id(text: str) -> str:
    """An id in lower case, as the log has it (RFC 9562 takes either case); other text as it is."""
    return text.lower() if is_id(text.lower()) else text


def id_time(prediction_id: str) -> float:
    """Return the time in an id, seconds since 1970."""
    return int(prediction_id[:8] + prediction_id[9:13], 16) / 1000


def lowest_id(moment: float) -> str:
    """Return the lowest id of a time: ids sort by time, so a range of time is a range of ids."""
    digits = f"{max(0, round(moment * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"
