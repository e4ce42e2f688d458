"""Confusion counts by version, recounted after outcomes have changed, and every hour."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from bc_pipeline.prediction_log.database import Database
from bc_pipeline.prediction_log.status import RECENT_DAYS, OutcomeCounts, RecentOutcomes
from bc_pipeline.prediction_log.tables import outcomes, predictions

# Largest share of the time that counting may take.
_TIME_SHARE = 0.02
# How often outcomes are counted again without a change: old ones leave the window.
_WINDOW_SECONDS = 3600.0
_DAY = 86_400.0


@dataclass(frozen=True)
class Counts:
    """Counts by version: of all current outcomes, and of those recorded recently."""

    total: dict[str, OutcomeCounts] = field(default_factory=dict)
    recent: dict[str, RecentOutcomes] = field(default_factory=dict)


class OutcomeCounter:
    """Keeps the counts up to date.

    Parameters
    ----------
    pause : float
        Seconds between two checks, at least.
    """

    def __init__(self, database: Database, known: Counts, pause: float) -> None:
        self._database = database
        self._pause = pause
        self._change_marker: tuple[Any, ...] | None = None
        self._due = 0.0
        self.counts = known

    def refresh(self) -> None:
        """Recount where outcomes were added, corrected or removed.

        Raises
        ------
        RecordsAway
        """
        started = time.monotonic()
        if started < self._due:
            return
        mark = (*_change_marker(self._database), time.time() // _WINDOW_SECONDS)
        if mark != self._change_marker:
            self.counts = count_outcomes(self._database)
            # Read before counting: an outcome recorded in between is counted again next time.
            self._change_marker = mark
        ended = time.monotonic()
        self._due = ended + max(self._pause, (ended - started) / _TIME_SHARE)


def _change_marker(database: Database) -> tuple[Any, ...]:
    """Return a value that changes with every recorded, corrected or removed outcome."""
    # Sequence numbers may be committed out of order, so the count is needed, too. A correction
    # adds a row and changes both.
    query = sa.select(sa.func.max(outcomes.c.seq), sa.func.count()).select_from(outcomes)
    with database.read_transaction() as connection:
        return tuple(connection.execute(query).one())


def count_outcomes(database: Database) -> Counts:
    """Count the current outcomes by the version that answered, in one pass.

    Raises
    ------
    RecordsAway
    """
    is_recent = outcomes.c.recorded_at >= time.time() - RECENT_DAYS * _DAY
    query = (
        sa.select(
            predictions.c.version,
            predictions.c.positive.label("predicted"),
            outcomes.c.positive.label("true"),
            sa.func.count().label("rows"),
            sa.func.sum(sa.case((is_recent, 1), else_=0)).label("recent"),
            sa.func.sum(sa.case((is_recent, predictions.c.probability), else_=0.0)).label(
                "expected"
            ),
        )
        .join_from(outcomes, predictions, outcomes.c.prediction_id == predictions.c.id)
        .where(outcomes.c.superseded_at.is_(None))
        .group_by(predictions.c.version, predictions.c.positive, outcomes.c.positive)
        .order_by(predictions.c.version)
    )
    with database.read_transaction() as connection:
        rows = connection.execute(query).all()
    total: dict[str, dict[str, int]] = {}
    recent: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind = ("t" if row.predicted == row.true else "f") + ("p" if row.predicted else "n")
        total.setdefault(row.version, {})[kind] = row.rows
        if row.recent:
            fields = recent.setdefault(row.version, {"expected": 0.0})
            fields[kind] = int(row.recent)
            fields["expected"] += float(row.expected)
    return Counts(
        {version: OutcomeCounts(**fields) for version, fields in total.items()},
        {version: RecentOutcomes(**fields) for version, fields in recent.items()},
    )
