"""Looking one prediction up, wherever it stands: in the database, or still in the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from bc_pipeline.encryption import Cipher, load_cipher
from bc_pipeline.errors import DecryptionFailed, NotThere, RecordExpired, RecordsAway
from bc_pipeline.records import segments
from bc_pipeline.records.entry import Entry, is_id, time_of
from bc_pipeline.records.frames import Logged, unseal
from bc_pipeline.records.retention import is_expired
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    from bc_pipeline.records.database import Database

# A record this young may have gone from the log to the database between our two looks.
_MOVING_SECONDS = 3600.0


class StoredOutcome(msgspec.Struct, frozen=True):
    """What turned out true.

    Attributes
    ----------
    positive : bool
    observed_at : float or None
        When the diagnosis was made, as far as the source told; seconds since 1970.
    recorded_at : float
    source : str
    corrections : int
        How many earlier diagnoses this one took the place of.
    """

    positive: bool
    observed_at: float | None
    recorded_at: float
    source: str
    corrections: int


class StoredPrediction(msgspec.Struct, frozen=True):
    """An answered prediction as it was recorded; see `Entry` for the fields not told here.

    Attributes
    ----------
    values, sample_id
        None where they are encrypted and the key at hand, if any, does not open them.
    sealed : bool
        Whether they are encrypted.
    drained : bool
        Whether it is in the database yet.
    outcome : StoredOutcome or None
    """

    id: str
    at: float
    version: str
    manifest_sha256: str
    probability: float
    positive: bool
    latency: float
    caller: str
    route: str
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
        Where the prediction is older than predictions are kept.
    RecordsAway
        Where the database is away and the log does not hold it.
    """
    from bc_pipeline.records.database import open_database

    if not is_id(prediction_id):
        raise _not_there()
    if is_expired(settings, prediction_id):
        raise RecordExpired(
            "The prediction was removed: it is older than predictions are kept.",
            f"They are kept for {settings.records_retention_days} days.",
        )
    cipher = records_cipher(settings)
    database = open_database(settings)
    away: RecordsAway | None = None
    try:
        if (stored := _in_database(database, prediction_id, cipher)) is not None:
            return stored
    except RecordsAway as error:
        away = error
    logged = segments.find(segments.spool_folder(settings.records), {prediction_id})
    if logged:
        return _from_log(logged[prediction_id], cipher)
    if away is not None:
        raise away
    if abs(time.time() - time_of(prediction_id)) < _MOVING_SECONDS:
        stored = _in_database(database, prediction_id, cipher)
        if stored is not None:
            return stored
    raise _not_there()


def records_cipher(settings: Settings) -> Cipher | None:
    """The key that logged features are encrypted with, where one is set.

    Raises
    ------
    ConfigError
    """
    key_file = settings.records_key_file
    return load_cipher(key_file, "BC_RECORDS_KEY_FILE") if key_file else None


def _not_there() -> NotThere:
    return NotThere("There is no prediction with this id.")


def _in_database(
    database: Database, prediction_id: str, cipher: Cipher | None
) -> StoredPrediction | None:
    import sqlalchemy as sa

    from bc_pipeline.records.tables import outcomes, predictions

    with database.reading() as connection:
        row = connection.execute(
            sa.select(predictions).where(predictions.c.id == prediction_id)
        ).one_or_none()
        if row is None:
            return None
        told = connection.execute(
            sa.select(outcomes)
            .where(outcomes.c.prediction_id == prediction_id)
            .order_by(outcomes.c.seq)
        ).all()
    values, sample_id = row.features, row.sample_id
    if row.sealed:
        values, sample_id = _opened(row.features, row.id, cipher)
    return StoredPrediction(
        id=row.id,
        at=row.at,
        version=row.version,
        manifest_sha256=row.manifest_sha256,
        probability=row.probability,
        positive=row.positive,
        latency=row.latency,
        caller=row.caller,
        route=row.route,
        values=values,
        sample_id=sample_id,
        sealed=row.sealed,
        drained=True,
        outcome=_outcome(told),
    )


def _outcome(told: Any) -> StoredOutcome | None:
    for row in told:
        if row.superseded_at is None:
            return StoredOutcome(
                row.positive, row.observed_at, row.recorded_at, row.source, len(told) - 1
            )
    return None


def _from_log(record: Logged, cipher: Cipher | None) -> StoredPrediction:
    values: bytes | None
    if isinstance(record, Entry):
        values, sample_id = record.values, record.sample_id
    else:
        values, sample_id = _opened(record.box, record.id, cipher)
    return StoredPrediction(
        id=record.id,
        at=record.at,
        version=record.version,
        manifest_sha256=record.manifest_sha256,
        probability=record.probability,
        positive=record.positive,
        latency=record.latency,
        caller=record.caller,
        route=record.route,
        values=values,
        sample_id=sample_id,
        sealed=not isinstance(record, Entry),
        drained=False,
        outcome=None,
    )


def _opened(
    box: bytes, prediction_id: str, cipher: Cipher | None
) -> tuple[bytes | None, str | None]:
    try:
        return (None, None) if cipher is None else unseal(box, prediction_id, cipher)
    except DecryptionFailed:
        # As without any key: what was answered can be told all the same.
        return None, None
