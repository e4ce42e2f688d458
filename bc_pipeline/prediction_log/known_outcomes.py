"""Recorded predictions whose outcome is known, as labelled rows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from bc_pipeline.prediction_log.database import open_database
from bc_pipeline.prediction_log.frames import private_fields, records_cipher
from bc_pipeline.prediction_log.insert import entry_of_row
from bc_pipeline.prediction_log.tables import outcomes, predictions
from bc_pipeline.settings import Settings

_PAGE = 5_000


@dataclass(frozen=True, eq=False)
class KnownOutcomes:
    """Predictions with their current outcomes, in the order in which they were answered.

    Attributes
    ----------
    ids : tuple of str, length n
        The caller's name for the sample; where it gave none, the id of the prediction.
    values : array of float64, shape (n, n_features)
    positive : array of bool, shape (n,)
        The true diagnosis.
    recorded_at : array of float64, shape (n,)
        When the outcome was recorded, seconds since 1970.
    without_features : int
        Predictions left out, because they were recorded with another number of features.
    """

    ids: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray
    recorded_at: np.ndarray
    without_features: int


def read_known_outcomes(settings: Settings, n_features: int, before: datetime) -> KnownOutcomes:
    """Read the current outcomes that were recorded before a time, page by page.

    An outcome that was corrected at that time or later is left out: what it said before is known
    to be wrong.

    Raises
    ------
    RecordsAway
    DecryptionFailed
        Where features are encrypted with another key than the configured one.
    """
    cipher = records_cipher(settings)
    ids: list[str] = []
    values: list[bytes] = []
    positive: list[bool] = []
    recorded_at: list[float] = []
    without_features = 0
    query = (
        sa.select(predictions, outcomes.c.positive.label("truth"), outcomes.c.recorded_at)
        .join_from(outcomes, predictions, outcomes.c.prediction_id == predictions.c.id)
        .where(outcomes.c.superseded_at.is_(None), outcomes.c.recorded_at < before.timestamp())
        .order_by(predictions.c.id)
        .limit(_PAGE)
    )
    page_query = query
    with closing(open_database(settings)) as database:
        while True:
            with database.read_transaction() as connection:
                page = connection.execute(page_query).all()
            for row in page:
                features, sample_id = private_fields(entry_of_row(row), cipher)
                if len(features) != 8 * n_features:
                    without_features += 1
                    continue
                ids.append(sample_id or row.id)
                values.append(features)
                positive.append(row.truth)
                recorded_at.append(row.recorded_at)
            if len(page) < _PAGE:
                break
            page_query = query.where(predictions.c.id > page[-1].id)
    table = np.frombuffer(b"".join(values), dtype="<f8").reshape(len(values), n_features)
    return KnownOutcomes(
        tuple(ids),
        # Adding zero turns -0.0 into 0.0: equal values have equal keys.
        table.astype(np.float64) + 0.0,
        np.array(positive, dtype=bool),
        np.array(recorded_at, dtype=np.float64),
        without_features,
    )
