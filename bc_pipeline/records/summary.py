"""How predictions turned out, counted by version; counted again only where that can differ."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bc_pipeline.records.status import OutcomeCounts

if TYPE_CHECKING:
    from bc_pipeline.records.database import Database

# Counting may take this share of the time, however many outcomes there are.
_SHARE = 0.02


class OutcomeSummary:
    """The counts, kept up to date for as little as it takes.

    Parameters
    ----------
    pause : float
        Seconds between two looks, at least.
    """

    def __init__(self, database: Database, known: dict[str, OutcomeCounts], pause: float) -> None:
        self._database = database
        self._pause = pause
        self._mark: tuple[Any, ...] | None = None
        self._due = 0.0
        self.counts = known

    def refresh(self) -> None:
        """Look whether outcomes came or went, and count them if so.

        Raises
        ------
        RecordsAway
        """
        started = time.monotonic()
        if started < self._due:
            return
        mark = _mark(self._database)
        if mark != self._mark:
            self.counts = count_outcomes(self._database)
            # What came between the two is counted again the next time.
            self._mark = mark
        ended = time.monotonic()
        self._due = ended + max(self._pause, (ended - started) / _SHARE)


def _mark(database: Database) -> tuple[Any, ...]:
    """What changes with every outcome that is recorded, corrected or removed."""
    import sqlalchemy as sa

    from bc_pipeline.records.tables import outcomes

    # Numbers of PostgreSQL may become visible out of order: the count is needed too. Who is
    # corrected gets a new row, so both change.
    query = sa.select(sa.func.max(outcomes.c.seq), sa.func.count()).select_from(outcomes)
    with database.reading() as connection:
        return tuple(connection.execute(query).one())


def count_outcomes(database: Database) -> dict[str, OutcomeCounts]:
    """Count the outcomes that hold, by the version that answered.

    Raises
    ------
    RecordsAway
    """
    import sqlalchemy as sa

    from bc_pipeline.records.tables import outcomes, predictions

    query = (
        sa.select(
            predictions.c.version,
            predictions.c.positive.label("predicted"),
            outcomes.c.positive.label("true"),
            sa.func.count().label("rows"),
        )
        .join_from(outcomes, predictions, outcomes.c.prediction_id == predictions.c.id)
        .where(outcomes.c.superseded_at.is_(None))
        .group_by(predictions.c.version, predictions.c.positive, outcomes.c.positive)
        .order_by(predictions.c.version)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        kind = ("t" if row.predicted == row.true else "f") + ("p" if row.predicted else "n")
        counts.setdefault(row.version, {})[kind] = row.rows
    return {version: OutcomeCounts(**found) for version, found in counts.items()}
