"""Recorded predictions as a table, page by page in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bc_pipeline.artifacts.files import staged_file
from bc_pipeline.clock import moment_of
from bc_pipeline.errors import ConfigError
from bc_pipeline.records import segments
from bc_pipeline.records.entry import first_id
from bc_pipeline.records.frames import unseal
from bc_pipeline.records.predictions import records_cipher
from bc_pipeline.schema import FeatureSchema, Labels
from bc_pipeline.settings import Settings
from bc_pipeline.tables.writer import Kind, Layout, open_writer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bc_pipeline.encryption import Cipher

_PAGE = 5_000
_BEFORE: dict[str, Kind] = {
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
_OUTCOME: dict[str, Kind] = {
    "outcome": "integer",
    "outcome_label": "text",
    "outcome_observed_at": "text",
    "outcome_recorded_at": "text",
    "outcome_source": "text",
}


class Exported(msgspec.Struct, frozen=True):
    """What an export holds.

    Attributes
    ----------
    rows : int
    without_features : int
        Rows of another schema than the problem has now: their features are left empty.
    waiting : int
        Bytes of the log that are not in the database yet, and so not in the export.
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
) -> Exported:
    """Write recorded predictions to a file, in the order in which they were answered.

    Parameters
    ----------
    path : Path
        Its suffix, ``.csv`` or ``.parquet``, says how. It is replaced as a whole.
    start, end : datetime, optional
        From this moment, and before that one.

    Raises
    ------
    ConfigError
        Where the suffix is neither.
    RecordsAway
    DecryptionFailed
        Where features are encrypted and the key at hand does not open them.
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
    columns = _BEFORE | features | (_OUTCOME if with_outcomes else {})
    cipher = records_cipher(settings)
    rows = odd = 0
    with staged_file(path) as staged, open_writer(staged, columns, layout) as writer:
        for page in _pages(settings, start, end, with_outcomes=with_outcomes):
            table, without = _table(page, schema.names, labels, cipher)
            if with_outcomes:
                table |= _outcome_columns(page, labels)
            writer.write(table)
            rows += len(page)
            odd += without
    waiting = segments.backlog(segments.spool_folder(settings.records))
    return Exported(rows, odd, waiting)


def _pages(
    settings: Settings, start: datetime | None, end: datetime | None, *, with_outcomes: bool
) -> Iterator[Sequence[sa.Row[Any]]]:
    """Pages by id: no cursor stays open, and no transaction lasts longer than a page."""
    import sqlalchemy as sa

    from bc_pipeline.records.database import open_database
    from bc_pipeline.records.tables import outcomes, predictions

    query = sa.select(predictions).order_by(predictions.c.id).limit(_PAGE)
    if with_outcomes:
        holds = sa.and_(
            outcomes.c.prediction_id == predictions.c.id, outcomes.c.superseded_at.is_(None)
        )
        query = query.outerjoin(outcomes, holds).add_columns(
            outcomes.c.positive.label("outcome"),
            outcomes.c.observed_at,
            outcomes.c.recorded_at,
            outcomes.c.source,
        )
    if end is not None:
        query = query.where(predictions.c.id < first_id(end.timestamp()))
    page_query = query.where(predictions.c.id >= first_id(start.timestamp() if start else 0.0))
    database = open_database(settings)
    while True:
        with database.reading() as connection:
            page = connection.execute(page_query).all()
        if page:
            yield page
        if len(page) < _PAGE:
            return
        page_query = query.where(predictions.c.id > page[-1].id)


def _table(
    page: Sequence[sa.Row[Any]], names: Sequence[str], labels: Labels, cipher: Cipher | None
) -> tuple[dict[str, Any], int]:
    """Columns of a page, and for how many rows the features had to be left empty."""
    matrix = np.full((len(page), len(names)), np.nan)
    known = np.zeros(len(page), dtype=bool)
    sample_ids = []
    for place, row in enumerate(page):
        values, sample_id = row.features, row.sample_id
        if row.sealed:
            values, sample_id = unseal(row.features, row.id, cipher)
        sample_ids.append(sample_id)
        if len(values) == 8 * len(names):
            matrix[place] = np.frombuffer(values, dtype="<f8")
            known[place] = True
    table: dict[str, Any] = {
        "prediction_id": [row.id for row in page],
        "answered_at": [_time(row.at) for row in page],
        "version": [row.version for row in page],
        "manifest_sha256": [row.manifest_sha256 for row in page],
        "prediction": [labels.code(row.positive) for row in page],
        "label": [labels.name(row.positive) for row in page],
        "probability_positive": [row.probability for row in page],
        "latency_seconds": [row.latency for row in page],
        "caller": [row.caller for row in page],
        "route": [row.route for row in page],
        "sample_id": sample_ids,
    }
    for place, name in enumerate(names):
        column = matrix[:, place].tolist()
        table[name] = [value if ok else None for value, ok in zip(column, known, strict=True)]
    return table, int(np.count_nonzero(~known))


def _outcome_columns(page: Sequence[sa.Row[Any]], labels: Labels) -> dict[str, Any]:
    known = [row.outcome is not None for row in page]
    return {
        "outcome": [
            labels.code(row.outcome) if ok else None for row, ok in zip(page, known, strict=True)
        ],
        "outcome_label": [
            labels.name(row.outcome) if ok else None for row, ok in zip(page, known, strict=True)
        ],
        "outcome_observed_at": [_time(row.observed_at) for row in page],
        "outcome_recorded_at": [_time(row.recorded_at) for row in page],
        "outcome_source": [row.source for row in page],
    }


def _time(moment: float | None) -> str | None:
    # A moment of before the check of what callers tell may be in no calendar.
    found = None if moment is None else moment_of(moment)
    return (
        None if found is None else f"{found.replace(tzinfo=None).isoformat('T', 'milliseconds')}Z"
    )
