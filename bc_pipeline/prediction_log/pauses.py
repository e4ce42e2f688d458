"""Pauses between rows, so that the drainer does not keep a processor from a worker for long.

Where both share a processor, the kernel lets the drainer run for some milliseconds once it has a
batch to do, and every request that arrives in the meantime waits for as long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
# Rows that are decoded, or inserted, in less than half a millisecond.
DECODED, INSERTED = 256, 48
SECONDS = 0.001


def in_parts(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """The rows in parts of a size, with a pause between two parts."""
    remaining = iter(rows)
    part = list(islice(remaining, size))
    while part:
        yield part
        part = list(islice(remaining, size))
        if part:
            time.sleep(SECONDS)
