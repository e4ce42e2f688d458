"""When a prediction is too old to be kept, and its removal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bc_pipeline.records import segments
from bc_pipeline.records.entry import first_id, is_id, time_of
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.records.database import Database

_DAY = 86_400.0
# A transaction removes so many at most: others write in between.
_AT_ONCE = 5_000


def horizon(settings: Settings) -> float | None:
    """Predictions from before this moment are to be gone; None where all are kept."""
    days = settings.records_retention_days
    return time.time() - days * _DAY if days else None


def is_expired(settings: Settings, prediction_id: str) -> bool:
    oldest = horizon(settings)
    return oldest is not None and time_of(prediction_id) < oldest


def quarantined_before(records: Path, moment: float) -> list[Path]:
    """Files set aside that may hold predictions from before a moment, the features plain."""
    folder = segments.quarantine_folder(records)
    # A file that was never finished is hidden, and holds as much.
    named = [(path.name.removeprefix("."), path) for path in folder.glob("*")]
    return [path for name, path in named if is_id(name[:36]) and time_of(name[:36]) < moment]


def purge_quarantine(records: Path, moment: float) -> list[Path]:
    """Remove what was set aside and may hold predictions from before a moment."""
    removed = quarantined_before(records, moment)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def count_before(database: Database, moment: float) -> int:
    """How many predictions `purge` would remove.

    Raises
    ------
    RecordsAway
    """
    import sqlalchemy as sa

    from bc_pipeline.records.tables import predictions

    older = predictions.c.id < first_id(moment)
    with database.reading() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(predictions).where(older)
        ).scalar_one()


def purge(database: Database, moment: float) -> int:
    """Remove the predictions from before a moment, and their outcomes.

    Returns
    -------
    int
        How many predictions were removed.

    Raises
    ------
    RecordsAway
    """
    import sqlalchemy as sa

    from bc_pipeline.records.tables import outcomes, predictions

    removed = 0
    oldest = (
        sa.select(predictions.c.id)
        .where(predictions.c.id < first_id(moment))
        .order_by(predictions.c.id)
        .limit(_AT_ONCE)
    )
    while True:
        with database.writing() as connection:
            ids = connection.execute(oldest).scalars().all()
            if not ids:
                return removed
            last = ids[-1]
            connection.execute(sa.delete(outcomes).where(outcomes.c.prediction_id <= last))
            connection.execute(sa.delete(predictions).where(predictions.c.id <= last))
        removed += len(ids)
