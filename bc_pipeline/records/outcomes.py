"""What turned out true: outcomes by prediction id, with their history.

One diagnosis holds for a prediction at a time. The same one again changes nothing; another
one is a conflict, unless it is sent as a correction, which keeps the row that it replaces.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bc_pipeline.errors import DataError, RecordsAway
from bc_pipeline.records import segments
from bc_pipeline.records.entry import is_id
from bc_pipeline.records.retention import is_expired
from bc_pipeline.schema import Labels
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

_DAY = 86_400.0
_AT_ONCE = 500
Answer = Literal["recorded", "known", "corrected", "conflict", "unknown", "expired"]


class OutcomeReport(msgspec.Struct, frozen=True):
    """One true diagnosis that a client reports.

    Attributes
    ----------
    prediction_id : str
    positive : bool
        The true diagnosis.
    source : str
        Who reports it.
    observed_at : float or None
        When the diagnosis was made, seconds since 1970; see `read_moment`.
    correction : bool
        Whether it may take the place of another diagnosis.
    """

    prediction_id: str
    positive: bool
    source: str
    observed_at: float | None = None
    correction: bool = False


class OutcomeResult(msgspec.Struct, frozen=True):
    """What became of a report.

    Attributes
    ----------
    result : str
        ``recorded``; ``known``: the same diagnosis is recorded already; ``corrected``: it
        took the place of another; ``conflict``: another is recorded, and still holds;
        ``unknown``: there is no such prediction; ``expired``: it is older than predictions
        are kept.
    diagnosis : str
        The label reported.
    held : str or None
        The label that is on record now.
    predicted : str or None
        The label that was predicted.
    days_after : float or None
        Days from the prediction to the diagnosis, to a thousandth.
    """

    prediction_id: str
    result: Answer
    diagnosis: str
    held: str | None = None
    predicted: str | None = None
    days_after: float | None = None


def record_outcomes(
    settings: Settings, reports: Sequence[OutcomeReport], labels: Labels
) -> list[OutcomeResult]:
    """Record outcomes durably, all of them in one transaction.

    Returns
    -------
    list of OutcomeResult
        In the order of the reports.

    Raises
    ------
    RecordsAway
        Nothing was recorded.
    """
    from bc_pipeline.records.database import open_database

    database = open_database(settings)
    results: dict[int, OutcomeResult] = {}
    order = sorted(range(len(reports)), key=lambda place: reports[place].prediction_id)
    try:
        with database.writing() as connection:
            for start in range(0, len(order), _AT_ONCE):
                places = order[start : start + _AT_ONCE]
                transaction = _Transaction(settings, connection, labels)
                transaction.look_up({reports[place].prediction_id for place in places})
                for place in places:
                    results[place] = transaction.take(reports[place])
                transaction.flush()
    except DataError:
        # A prediction was removed between our look and our write: the next try finds none.
        raise RecordsAway(
            "The outcomes could not be recorded beside another change.", "Send them again."
        ) from None
    return [results[place] for place in range(len(reports))]


class _Transaction:
    """Decides on reports against what is locked, and gathers the rows to write."""

    def __init__(self, settings: Settings, connection: sa.Connection, labels: Labels) -> None:
        self._settings = settings
        self._connection = connection
        self._labels = labels
        self._predictions: dict[str, Any] = {}
        self._held: dict[str, Any] = {}
        self._new: list[dict[str, Any]] = []
        self._now = time.time()

    def look_up(self, ids: set[str]) -> None:
        """Lock the predictions, and read which diagnoses hold."""
        import sqlalchemy as sa

        from bc_pipeline.records.insert import insert
        from bc_pipeline.records.tables import outcomes

        wanted = {name for name in ids if is_id(name) and not is_expired(self._settings, name)}
        self._lock(wanted)
        if missing := wanted - self._predictions.keys():
            folder = segments.spool_folder(self._settings.records)
            insert(self._connection, list(segments.find(folder, missing).values()))
            # Also those that the drainer took over between our two looks.
            self._lock(missing)
        rows = self._connection.execute(
            sa.select(outcomes.c.prediction_id, outcomes.c.positive).where(
                outcomes.c.prediction_id.in_(self._predictions),
                outcomes.c.superseded_at.is_(None),
            )
        )
        self._held = {row.prediction_id: row.positive for row in rows}

    def _lock(self, ids: set[str]) -> None:
        import sqlalchemy as sa

        from bc_pipeline.records.tables import predictions

        columns = (predictions.c.id, predictions.c.at, predictions.c.positive)
        rows = self._connection.execute(
            sa.select(*columns)
            .where(predictions.c.id.in_(sorted(ids)))
            .order_by(predictions.c.id)
            .with_for_update()
        )
        self._predictions |= {row.id: row for row in rows}

    def take(self, report: OutcomeReport) -> OutcomeResult:
        """Decide on one report."""
        prediction_id = report.prediction_id
        prediction = self._predictions.get(prediction_id)
        diagnosis = self._labels.name(report.positive)
        if prediction is None:
            gone = is_id(prediction_id) and is_expired(self._settings, prediction_id)
            return OutcomeResult(prediction_id, "expired" if gone else "unknown", diagnosis)
        held = self._held.get(prediction_id)
        result: Answer
        if held is None:
            result = "recorded"
        elif held == report.positive:
            result = "known"
        else:
            result = "corrected" if report.correction else "conflict"
        if result == "corrected":
            self._supersede(prediction_id)
        if result in ("recorded", "corrected"):
            self._add(report)
        known_at = self._now if report.observed_at is None else report.observed_at
        return OutcomeResult(
            prediction_id,
            result,
            diagnosis,
            held=self._labels.name(self._held[prediction_id]),
            predicted=self._labels.name(prediction.positive),
            days_after=round((known_at - prediction.at) / _DAY, 3),
        )

    def _add(self, report: OutcomeReport) -> None:
        self._held[report.prediction_id] = report.positive
        self._new.append(
            {
                "prediction_id": report.prediction_id,
                "positive": report.positive,
                "observed_at": report.observed_at,
                "recorded_at": self._now,
                "source": report.source.replace("\0", "\N{REPLACEMENT CHARACTER}"),
            }
        )

    def _supersede(self, prediction_id: str) -> None:
        import sqlalchemy as sa

        from bc_pipeline.records.tables import outcomes

        # The row that is replaced may be one of this transaction's own.
        self.flush()
        self._connection.execute(
            sa.update(outcomes)
            .where(outcomes.c.prediction_id == prediction_id, outcomes.c.superseded_at.is_(None))
            .values(superseded_at=self._now)
        )

    def flush(self) -> None:
        import sqlalchemy as sa

        from bc_pipeline.records.tables import outcomes

        if self._new:
            self._connection.execute(sa.insert(outcomes), self._new)
            self._new = []
