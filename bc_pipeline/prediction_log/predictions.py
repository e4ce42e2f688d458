"""Looking one prediction up, wherever it stands: in the database, or still in the log."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import DecryptionFailed, NotThere, RecordExpired, RecordsAway
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.entry import Answer, canonical_id, id_time, is_id
from bc_pipeline.prediction_log.frames import (
    AnyEntry,
    EncryptedEntry,
    private_fields,
    records_cipher,
)
from bc_pipeline.prediction_log.retention import is_expired
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.prediction_log.database import Database

# An entry this young may move from the log to the database between the two look-ups.
_DRAINING_SECONDS = 3600.0


class StoredOutcome(msgspec.Struct, frozen=True):
    """The current diagnosis of a prediction.

    Attributes
    ----------
    positive : bool
    observed_at : float or None
        Time of the diagnosis where the source reported it; seconds since 1970.
    recorded_at : float
    source : str
    corrections : int
        Number of superseded diagnoses.
    """

    positive: bool
    observed_at: float | None
    recorded_at: float
    source: str
    corrections: int


class StoredPrediction(Answer, frozen=True, array_like=False):
    """An answered prediction as it was recorded.

    Attributes
    ----------
    values, sample_id
        As of `LogEntry`; None where they are encrypted with a key that is not configured.
    sealed : bool
        Whether they are encrypted.
    drained : bool
        Whether it is in the database yet.
    outcome : StoredOutcome or None
    """

    values: bytes | None
    sample_id: str | None
    sealed: bool
    drained: bool
    outcome: StoredOutcome | None


def find_prediction(settings: Settings, prediction_id: str) -> StoredPrediction:
    """Look a prediction up by its id.

    Raises
    ------
    NotThere
    RecordExpired
        Where the prediction is beyond retention.
    RecordsAway
        Where the database is unavailable and the log does not hold the prediction.
    """
    from bc_pipeline.prediction_log.database import open_database

    prediction_id = canonical_id(prediction_id)
    if not is_id(prediction_id):
        raise _not_found()
    if is_expired(settings, prediction_id):
        raise RecordExpired(
            "The prediction was removed when its retention ended.",
            f"Predictions are kept for {settings.records_retention_days} days.",
        )
    cipher = records_cipher(settings)
    database = open_database(settings)
    unavailable: RecordsAway | None = None
    try:
        if (stored := _in_database(database, prediction_id, cipher)) is not None:
            return stored
    except RecordsAway as error:
        unavailable = error
    logged = segments.find_entries(segments.spool_folder(settings.records), {prediction_id})
    if logged:
        return _stored(logged[prediction_id], cipher, drained=False, outcome=None)
    if unavailable is not None:
        raise unavailable
    is_young = abs(time.time() - id_time(prediction_id)) < _DRAINING_SECONDS
    if is_young and (stored := _in_database(database, prediction_id, cipher)) is not None:
        return stored
    raise _not_found()


def _not_found() -> NotThere:
    return NotThere("There is no prediction with this id.")


def _in_database(
    database: Database, prediction_id: str, cipher: Cipher | None
) -> StoredPrediction | None:
    import sqlalchemy as sa

    from bc_pipeline.prediction_log.insert import entry_of_row
    from bc_pipeline.prediction_log.tables import outcomes, predictions

    with database.read_transaction() as connection:
        row = connection.execute(
            sa.select(predictions).where(predictions.c.id == prediction_id)
        ).one_or_none()
        if row is None:
            return None
        outcome_rows = connection.execute(
            sa.select(outcomes)
            .where(outcomes.c.prediction_id == prediction_id)
            .order_by(outcomes.c.seq)
        ).all()
    current = next((row for row in outcome_rows if row.superseded_at is None), None)
    outcome = None
    if current is not None:
        outcome = StoredOutcome(
            positive=current.positive,
            observed_at=current.observed_at,
            recorded_at=current.recorded_at,
            source=current.source,
            corrections=len(outcome_rows) - 1,
        )
    return _stored(entry_of_row(row), cipher, drained=True, outcome=outcome)


def _stored(
    entry: AnyEntry, cipher: Cipher | None, *, drained: bool, outcome: StoredOutcome | None
) -> StoredPrediction:
    values, sample_id = None, None
    # Without the right key the answer itself can be shown: it is not encrypted.
    with suppress(DecryptionFailed):
        values, sample_id = private_fields(entry, cipher)
    return StoredPrediction(
        **{name: getattr(entry, name) for name in Answer.__struct_fields__},
        values=values,
        sample_id=sample_id,
        sealed=isinstance(entry, EncryptedEntry),
        drained=drained,
        outcome=outcome,
    )
