"""Export recorded predictions as a table, page by page in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from bc_pipeline.artifacts.files import staged_file
from bc_pipeline.clock import time_of_seconds
from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import ConfigError
from bc_pipeline.labels import Labels
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.entry import lowest_id
from bc_pipeline.prediction_log.frames import private_fields, records_cipher
from bc_pipeline.prediction_log.insert import entry_of_row
from bc_pipeline.prediction_log.tables import outcomes, predictions
from bc_pipeline.schema import FeatureSchema
from bc_pipeline.settings import Settings
from bc_pipeline.tables.writer import Kind, Layout, TableWriter

_PAGE = 5_000
_PREDICTION_COLUMNS: dict[str, Kind] = {
    "prediction_id": "text",
    "answered_at": "text",
    "version": "text",
    "manifest_sha256": "text",
    "prediction": "integer",
    "label": "text",
    "probability_positive": "number",
    "latency_seconds": "number",
    "caller": "text",
    "route": "text",
    "sample_id": "text",
}
_OUTCOME_COLUMNS: dict[str, Kind] = {
    "outcome": "integer",
    "outcome_label": "text",
    "outcome_observed_at": "text",
    "outcome_recorded_at": "text",
    "outcome_source": "text",
}


class ExportSummary(msgspec.Struct, frozen=True):
    """Counts of an export.

    Attributes
    ----------
    rows : int
    without_features : int
        Rows recorded with another number of features than the problem has now; their
        features are left empty.
    waiting : int
        Bytes of the log that are not in the database yet and therefore not exported.
    """

    rows: int
    without_features: int
    waiting: int


def export_predictions(
    settings: Settings,
    path: Path,
    schema: FeatureSchema,
    labels: Labels,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    with_outcomes: bool = False,
) -> ExportSummary:
    """Write recorded predictions to a file, in the order in which they were answered.

    Parameters
    ----------
    path : Path
        Its suffix, ``.csv`` or ``.parquet``, chooses the format. It is replaced atomically.
    start, end : datetime, optional
        Inclusive start and exclusive end of the time of the answer.

    Raises
    ------
    ConfigError
        Where the suffix is neither.
    RecordsAway
    DecryptionFailed
        Where features are encrypted with another key than the configured one.
    """
    layouts: dict[str, Layout] = {".csv": "csv", ".parquet": "parquet"}
    layout = layouts.get(path.suffix.lower())
    if layout is None:
        raise ConfigError(
            f"{path.name} says neither CSV nor Parquet.",
            "Give the file a name that ends with .csv or .parquet.",
            setting="path",
        )
    features: dict[str, Kind] = dict.fromkeys(schema.names, "number")
    columns = _PREDICTION_COLUMNS | features | (_OUTCOME_COLUMNS if with_outcomes else {})
    cipher = records_cipher(settings)
    rows = without_features = 0
    with staged_file(path) as staged, TableWriter(staged, columns, layout) as writer:
        for page in _pages(settings, start, end, with_outcomes=with_outcomes):
            table, incomplete = _table(page, schema.names, labels, cipher)
            if with_outcomes:
                table |= _outcome_columns(page, labels)
            writer.write(table)
            rows += len(page)
            without_features += incomplete
    waiting = segments.backlog_bytes(segments.spool_folder(settings.records))
    return ExportSummary(rows, without_features, waiting)


def _pages(
    settings: Settings, start: datetime | None, end: datetime | None, *, with_outcomes: bool
) -> Iterator[Sequence[sa.Row[Any]]]:
    """Read page by page, by id: no cursor or transaction outlasts a page."""
    query = sa.select(predictions).order_by(predictions.c.id).limit(_PAGE)
    if with_outcomes:
        is_current = sa.and_(
            outcomes.c.prediction_id == predictions.c.id, outcomes.c.superseded_at.is_(None)
        )
        query = query.outerjoin(outcomes, is_current).add_columns(
            outcomes.c.positive.label("outcome"),
            outcomes.c.observed_at,
            outcomes.c.recorded_at,
            outcomes.c.source,
        )
    if end is not None:
        query = query.where(predictions.c.id < lowest_id(end.timestamp()))
    page_query = query.where(predictions.c.id >= lowest_id(start.timestamp() if start else 0.0))
    with closing(open_database(settings)) as database:
        while True:
            with database.read_transaction() as connection:
                page = connection.execute(page_query).all()
            if page:
                yield page
            if len(page) < _PAGE:
                return
            page_query = query.where(predictions.c.id > page[-1].id)


def _table(
    page: Sequence[sa.Row[Any]], names: Sequence[str], labels: Labels, cipher: Cipher | None
) -> tuple[dict[str, Any], int]:
    """Build the columns of a page; also return how many rows have no features."""
    entries = [entry_of_row(row) for row in page]
    private = [private_fields(entry, cipher) for entry in entries]
    known = [len(values) == 8 * len(names) for values, _ in private]
    features = [
        np.frombuffer(values, dtype="<f8").tolist() if ok else [None] * len(names)
        for (values, _), ok in zip(private, known, strict=True)
    ]
    table: dict[str, Any] = {
        "prediction_id": [entry.id for entry in entries],
        "answered_at": [_time(entry.at) for entry in entries],
        "version": [entry.version for entry in entries],
        "manifest_sha256": [entry.manifest_sha256 for entry in entries],
        "prediction": [labels.code(entry.positive) for entry in entries],
        "label": [labels.name(entry.positive) for entry in entries],
        "probability_positive": [entry.probability for entry in entries],
        "latency_seconds": [entry.latency for entry in entries],
        "caller": [entry.caller for entry in entries],
        "route": [entry.route for entry in entries],
        "sample_id": [sample_id for _, sample_id in private],
    }
    table |= zip(names, zip(*features, strict=True), strict=True)
    return table, known.count(False)


def _outcome_columns(page: Sequence[sa.Row[Any]], labels: Labels) -> dict[str, Any]:
    outcomes = [row.outcome for row in page]
    return {
        "outcome": [None if outcome is None else labels.code(outcome) for outcome in outcomes],
        "outcome_label": [
            None if outcome is None else labels.name(outcome) for outcome in outcomes
        ],
        "outcome_observed_at": [_time(row.observed_at) for row in page],
        "outcome_recorded_at": [_time(row.recorded_at) for row in page],
        "outcome_source": [row.source for row in page],
    }


def _time(seconds: float | None) -> str | None:
    # Rows from before `observed_at` was validated may hold a time outside the calendar.
    time = None if seconds is None else time_of_seconds(seconds)
    return None if time is None else f"{time.replace(tzinfo=None).isoformat('T', 'milliseconds')}Z"
