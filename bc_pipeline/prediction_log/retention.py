"""Retention: which predictions have expired, and their removal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.entry import id_time, is_id, lowest_id
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.prediction_log.database import Database

_DAY = 86_400.0
# Rows removed in one transaction, so that other writers get their turn.
_AT_ONCE = 5_000


def retention_cutoff(settings: Settings) -> float | None:
    """Return the time before which predictions expire; None without retention."""
    days = settings.records_retention_days
    return time.time() - days * _DAY if days else None


def is_expired(settings: Settings, prediction_id: str) -> bool:
    oldest = retention_cutoff(settings)
    return oldest is not None and id_time(prediction_id) < oldest


def quarantined_before(records: Path, moment: float) -> list[Path]:
    """List quarantined files that may hold predictions from before a time."""
    folder = segments.quarantine_folder(records)
    # An unfinished file has a leading dot and may hold predictions, too.
    named = [(path.name.removeprefix("."), path) for path in folder.glob("*")]
    return [path for name, path in named if is_id(name[:36]) and id_time(name[:36]) < moment]


def purge_quarantine(records: Path, moment: float) -> list[Path]:
    """Remove quarantined files that may hold predictions from before a time."""
    removed = quarantined_before(records, moment)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def count_before(database: Database, moment: float) -> int:
    """Count the predictions that `purge` would remove.

    Raises
    ------
    RecordsAway
    """
    import sqlalchemy as sa

    from bc_pipeline.prediction_log.tables import predictions

    older = predictions.c.id < lowest_id(moment)
    with database.read_transaction() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(predictions).where(older)
        ).scalar_one()


def purge(database: Database, moment: float) -> int:
    """Remove the predictions from before a time, and their outcomes.

    Returns
    -------
    int
        How many predictions were removed.

    Raises
    ------
    RecordsAway
    """
    import sqlalchemy as sa

    from bc_pipeline.prediction_log.tables import outcomes, predictions

    removed = 0
    oldest = (
        sa.select(predictions.c.id)
        .where(predictions.c.id < lowest_id(moment))
        .order_by(predictions.c.id)
        .limit(_AT_ONCE)
    )
    while True:
        with database.write_transaction() as connection:
            ids = connection.execute(oldest).scalars().all()
            if not ids:
                return removed
            last = ids[-1]
            connection.execute(sa.delete(outcomes).where(outcomes.c.prediction_id <= last))
            connection.execute(sa.delete(predictions).where(predictions.c.id <= last))
        removed += len(ids)
