"""The drainer's status file, which every worker reads for ``/readyz`` and metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

FILE_NAME = "status.json"
RECENT_DAYS = 28


class OutcomeCounts(msgspec.Struct, frozen=True):
    """Confusion counts of one version: predictions against outcomes.

    Attributes
    ----------
    tp, fn, fp, tn : int
        True positives, false negatives, false positives, true negatives.
    """

    tp: int = 0
    fn: int = 0
    fp: int = 0
    tn: int = 0


class RecentOutcomes(OutcomeCounts, frozen=True):
    """Those of the outcomes that were recorded within the last `RECENT_DAYS`.

    Attributes
    ----------
    expected : float
        Sum of the probabilities of the positive class that were answered: what ``tp + fn`` is for
        a calibrated model, on average.
    """

    expected: float = 0.0


class Status(msgspec.Struct, frozen=True, omit_defaults=False):
    """State of the drainer at `written_at`; a running drainer writes it every second.

    Attributes
    ----------
    database : {"ok", "away"}
    since : float
        Start of this state, seconds since 1970.
    error : str
        Short code of the failure; empty where the database answers.
    backlog : int
        Bytes of the log that are not drained yet.
    oldest : float
        Age in seconds of the oldest entry that is not drained; 0 without one.
    drained, damaged, refused : int
        Totals: drained entries, damaged ranges, and entries that the database rejected. The
        last two are in the folder ``quarantine``.
    outcomes : dict of str to OutcomeCounts
        By model version.
    recent_outcomes : dict of str to RecentOutcomes
        By model version; only versions with any.
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
    recent_outcomes: dict[str, RecentOutcomes] = msgspec.field(default_factory=dict)
    written_at: float = 0.0


def read_status(records: Path) -> Status | None:
    """Read the status; None where there is no readable file."""
    try:
        return msgspec.json.decode((records / FILE_NAME).read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write_status(records: Path, status: Status) -> None:
    """Replace the file atomically, without syncing it."""
    temporary = records / f".{FILE_NAME}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(status))
    temporary.replace(records / FILE_NAME)
