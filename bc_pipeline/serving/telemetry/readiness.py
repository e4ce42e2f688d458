"""Whether predictions can be answered, and which part prevents it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bc_pipeline import clock
from bc_pipeline.errors import NoChampion, PipelineError, RecordsAway
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.prediction_log.status import Status, read_status
from bc_pipeline.serving.model.loaded_model import LoadedModel

# Routes that orchestrators and load balancers ask whether to restart or to use the service.
PROBE_PATHS = frozenset(
    {"/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"}
)
# A running drainer reports every second.
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
        is served. It never makes the service unready: answers wait for it in the log, whose
        backlog is bounded.
    backlog : int
        Bytes of the log that wait for the database.
    status : Status or None
        The drainer's last report.
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

    @property
    def oldest_waiting_seconds(self) -> float:
        """Age of the oldest record that waits; it grows while the drainer is silent."""
        status = self.status
        if status is None or not status.oldest:
            return 0.0
        return status.oldest + max(0.0, time.time() - status.written_at)


def no_model() -> NoChampion:
    return NoChampion("No verified model is live.", "The service loads one once it is promoted.")


def unwritable_log() -> RecordsAway:
    return RecordsAway("The prediction log cannot be written.", "Try again.")


def is_ready(model: LoadedModel | None, spool: Spool | None) -> bool:
    """Whether predictions can be answered, without reading any file."""
    return model is not None and (spool is None or spool.state().writable)


def check_readiness(model: LoadedModel | None, spool: Spool | None, records: Path) -> Readiness:
    """Check every part; reads one small file in the folder of records."""
    error: PipelineError | None = None
    backlog, log, status = 0, "ok", None
    database: Database = "unused"
    if spool is not None:
        state, status = spool.state(), read_status(records)
        backlog, log = state.backlog, state.error or log
        # A drainer that has not reported for a while may have ended or hang.
        is_recent = status is not None and time.time() - status.written_at <= SILENT_SECONDS
        database = status.database if status is not None and is_recent else "unknown"
        if not state.writable:
            log, error = state.error or "cannot be written", unwritable_log()
    if model is None:
        error = no_model()
    model_state = "no verified model" if model is None else "ok"
    return Readiness(error, model_state, log, database, backlog, status)


def prediction_log_status(readiness: Readiness) -> dict[str, Any]:
    """The prediction log and its database, for people."""
    status = readiness.status
    return {
        "log": readiness.log,
        "database": readiness.database,
        "database_since": clock.format_seconds(status.since) if status else None,
        "database_error": (status.error or None) if status else None,
        "backlog_bytes": readiness.backlog,
        "oldest_waiting_seconds": round(readiness.oldest_waiting_seconds, 1),
        "damaged": status.damaged if status else 0,
        "refused": status.refused if status else 0,
        "reported_at": clock.format_seconds(status.written_at) if status else None,
    }
