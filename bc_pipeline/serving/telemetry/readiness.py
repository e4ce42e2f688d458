"""Whether predictions can be answered, and which part is in the way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from bc_pipeline import clock
from bc_pipeline.errors import NoChampion, PipelineError, RecordsAway
from bc_pipeline.records.status import Status, read_status
from bc_pipeline.serving.services import Services

# A drainer that lives reports every second.
SILENT_SECONDS = 15.0

Database = Literal["ok", "away", "unknown", "unused"]


@dataclass(frozen=True)
class Readiness:
    """The state of each part.

    Attributes
    ----------
    error : PipelineError or None
        Why predictions cannot be answered; None where they can.
    model, log : str
        ``ok``, or what is wrong.
    database : str
        ``ok``, ``away``, ``unknown`` where the drainer is silent, ``unused`` where a folder
        is served. It makes nothing unready: answers wait for it in the log, which is
        bounded.
    backlog : int
        Bytes that wait for the database.
    status : Status or None
        What the drainer said last.
    """

    error: PipelineError | None
    model: str
    log: str
    database: Database
    backlog: int
    status: Status | None

    @property
    def parts(self) -> dict[str, str]:
        return {"model": self.model, "log": self.log, "database": self.database}


def is_ready(services: Services) -> bool:
    """The short answer, without a look at any file."""
    spool = services.spool
    return services.model.current is not None and (spool is None or spool.state().writable)


def readiness(services: Services) -> Readiness:
    """Look at every part; reads one small file."""
    model = log = "ok"
    error: PipelineError | None = None
    backlog = 0
    try:
        services.require_log()
    except RecordsAway as away:
        log, error = "cannot be written", away
    if services.spool is not None:
        state = services.spool.state()
        backlog = state.backlog
        log = state.error or log
    try:
        _ = services.live
    except NoChampion as missing:
        model, error = "no verified model", missing
    status = read_status(services.settings.records) if services.spool is not None else None
    return Readiness(error, model, log, _database(services, status), backlog, status)


def is_silent(status: Status) -> bool:
    """Whether the drainer has not reported for a while: it may have ended, or hang."""
    return time.time() - status.written_at > SILENT_SECONDS


def _database(services: Services, status: Status | None) -> Database:
    if services.spool is None:
        return "unused"
    if status is None or is_silent(status):
        return "unknown"
    return status.database


def records_facts(found: Readiness) -> dict[str, Any]:
    """The prediction log and its database, for people."""
    status = found.status
    return {
        "log": found.log,
        "database": found.database,
        "database_since": _time(status.since) if status else None,
        "database_error": (status.error or None) if status else None,
        "backlog_bytes": found.backlog,
        "oldest_waiting_seconds": round(oldest(found), 1),
        "damaged": status.damaged if status else 0,
        "refused": status.refused if status else 0,
        "reported_at": _time(status.written_at) if status else None,
    }


def oldest(found: Readiness) -> float:
    """Age of the oldest record that waits; it grows while the drainer says nothing."""
    status = found.status
    if status is None or not status.oldest:
        return 0.0
    return status.oldest + max(0.0, time.time() - status.written_at)


def _time(seconds: float) -> str:
    return clock.format_time(datetime.fromtimestamp(seconds, UTC))
