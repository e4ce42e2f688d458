"""What the drainer knows, in a small file that every worker reads for ``/readyz`` and metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

FILE_NAME = "status.json"


class OutcomeCounts(msgspec.Struct, frozen=True):
    """Answered predictions of one version, against what turned out true.

    Attributes
    ----------
    tp, fn, fp, tn : int
        True positives, false negatives, false positives, true negatives.
    """

    tp: int = 0
    fn: int = 0
    fp: int = 0
    tn: int = 0


class Status(msgspec.Struct, frozen=True, omit_defaults=False):
    """State of the drainer at `written_at`; a drainer that lives writes it every second.

    Attributes
    ----------
    database : {"ok", "away"}
    since : float
        When it became so, seconds since 1970.
    error : str
        Why it is away, as a short code; empty where it is not.
    backlog : int
        Bytes of the log that wait for the database.
    oldest : float
        Age in seconds of the oldest record that waits; 0 where none does.
    drained, damaged, refused : int
        Since the log began: records drained, damaged stretches of it, and records that the
        database would not take. The last two are kept in the folder ``quarantine``.
    outcomes : dict of str to OutcomeCounts
        By model version.
    """

    database: Literal["ok", "away"]
    since: float
    error: str = ""
    backlog: int = 0
    oldest: float = 0.0
    drained: int = 0
    damaged: int = 0
    refused: int = 0
    outcomes: dict[str, OutcomeCounts] = msgspec.field(default_factory=dict)
    written_at: float = 0.0


def read_status(records: Path) -> Status | None:
    """What the drainer wrote last; None where there is nothing readable."""
    try:
        return msgspec.json.decode((records / FILE_NAME).read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None


def write_status(records: Path, status: Status) -> None:
    """Replace the file as a whole; it need not outlive a power cut."""
    temporary = records / f".{FILE_NAME}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(status))
    temporary.replace(records / FILE_NAME)
