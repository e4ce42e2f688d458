"""Outcomes (true diagnoses) by prediction id, with their history.

A prediction has one current diagnosis. Reporting the same one again changes nothing; another
one is a conflict unless it is marked as a correction, which supersedes the current row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import BaseModel

from bc_pipeline.clock import parse_time, time_defect
from bc_pipeline.errors import ConfigError, DataError, Defect, RecordsAway
from bc_pipeline.labels import Labels
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.entry import id_time, is_id
from bc_pipeline.prediction_log.retention import is_expired
from bc_pipeline.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

_DAY = 86_400.0
_AT_ONCE = 500
OutcomeStatus = Literal["recorded", "known", "corrected", "conflict", "unknown", "expired"]


class OutcomeReport(msgspec.Struct, frozen=True):
    """One true diagnosis that a client reports.

    Attributes
    ----------
    prediction_id : str
    positive : bool
        The true diagnosis.
    source : str
        Name of the reporting caller.
    observed_at : float or None
        When the diagnosis was made, seconds since 1970; see `parse_observed_at`.
    correction : bool
        Whether it may replace another diagnosis.
    """

    prediction_id: str
    positive: bool
    source: str
    observed_at: float | None = None
    correction: bool = False


class OutcomeResult(BaseModel, frozen=True, strict=True, extra="forbid"):
    """The result of one report.

    Attributes
    ----------
    result : str
        ``recorded``; ``known``: the same diagnosis was recorded before; ``corrected``: it
        replaced another; ``conflict``: another one is current and stays; ``unknown``: there
        is no such prediction; ``expired``: the prediction is beyond retention.
    diagnosis : str
        The label reported.
    held : str or None
        The current label.
    predicted : str or None
        The label that was predicted.
    days_after : float or None
        Days from the prediction to the diagnosis, to a thousandth.
    """

    prediction_id: str
    result: OutcomeStatus
    diagnosis: str
    held: str | None = None
    predicted: str | None = None
    days_after: float | None = None


def parse_observed_at(text: str, prediction_id: str) -> float | Defect:
    """Return the seconds since 1970 of an ISO 8601 date or time, or its defect.

    A time without a zone is UTC. It must not be more than a day ahead of the clock, before
    1900, nor before the time that the prediction id carries.
    """
    try:
        read = parse_time(text)
    except ConfigError:
        return Defect("is no ISO 8601 date or time", column="observed_at")
    defect = time_defect(read)
    if defect:
        return Defect(defect, column="observed_at")
    moment, now = read.timestamp(), time.time()
    # A date without a time means the start of the day, and time zones differ by up to a day.
    if is_id(prediction_id) and moment < min(id_time(prediction_id), now) - _DAY:
        return Defect("lies before the prediction was answered", column="observed_at")
    return moment


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
    from bc_pipeline.prediction_log.database import open_database

    database = open_database(settings)
    results: dict[int, OutcomeResult] = {}
    order = sorted(enumerate(reports), key=lambda numbered: numbered[1].prediction_id)
    try:
        with database.write_transaction() as connection:
            for start in range(0, len(order), _AT_ONCE):
                batch = order[start : start + _AT_ONCE]
                transaction = _Transaction(settings, connection, labels)
                transaction.load_predictions({report.prediction_id for _, report in batch})
                results |= {number: transaction.apply(report) for number, report in batch}
                transaction.flush()
    except DataError:
        # A prediction was removed after it was read: the next try will not find it.
        raise RecordsAway(
            "The outcomes could not be recorded beside another change.", "Send them again."
        ) from None
    return [results[number] for number in range(len(reports))]


class _Transaction:
    """Applies reports to locked predictions and collects the rows to insert."""

    def __init__(self, settings: Settings, connection: sa.Connection, labels: Labels) -> None:
        self._settings = settings
        self._connection = connection
        self._labels = labels
        self._predictions: dict[str, Any] = {}
        self._current: dict[str, Any] = {}
        self._new: list[dict[str, Any]] = []
        self._now = time.time()

    def load_predictions(self, ids: set[str]) -> None:
        """Lock the predictions and read their current diagnoses."""
        import sqlalchemy as sa

        from bc_pipeline.prediction_log.insert import insert
        from bc_pipeline.prediction_log.tables import outcomes

        valid_ids = {name for name in ids if is_id(name) and not is_expired(self._settings, name)}
        self._lock(valid_ids)
        if missing := valid_ids - self._predictions.keys():
            folder = segments.spool_folder(self._settings.records)
            insert(self._connection, list(segments.find_entries(folder, missing).values()))
            # The drainer may have inserted some of them since the first attempt.
            self._lock(missing)
        rows = self._connection.execute(
            sa.select(outcomes.c.prediction_id, outcomes.c.positive).where(
                outcomes.c.prediction_id.in_(self._predictions),
                outcomes.c.superseded_at.is_(None),
            )
        )
        self._current = {row.prediction_id: row.positive for row in rows}

    def _lock(self, ids: set[str]) -> None:
        import sqlalchemy as sa

        from bc_pipeline.prediction_log.tables import predictions

        columns = (predictions.c.id, predictions.c.at, predictions.c.positive)
        rows = self._connection.execute(
            sa.select(*columns)
            .where(predictions.c.id.in_(sorted(ids)))
            .order_by(predictions.c.id)
            .with_for_update()
        )
        self._predictions |= {row.id: row for row in rows}

    def apply(self, report: OutcomeReport) -> OutcomeResult:
        """Apply one report."""
        prediction_id = report.prediction_id
        prediction = self._predictions.get(prediction_id)
        diagnosis = self._labels.name(report.positive)
        if prediction is None:
            expired = is_id(prediction_id) and is_expired(self._settings, prediction_id)
            return OutcomeResult(
                prediction_id=prediction_id,
                result="expired" if expired else "unknown",
                diagnosis=diagnosis,
            )
        current = self._current.get(prediction_id)
        result: OutcomeStatus
        if current is None:
            result = "recorded"
        elif current == report.positive:
            result = "known"
        else:
            result = "corrected" if report.correction else "conflict"
        if result == "corrected":
            self._supersede(prediction_id)
        if result in ("recorded", "corrected"):
            self._add(report)
        known_at = self._now if report.observed_at is None else report.observed_at
        return OutcomeResult(
            prediction_id=prediction_id,
            result=result,
            diagnosis=diagnosis,
            held=self._labels.name(self._current[prediction_id]),
            predicted=self._labels.name(prediction.positive),
            days_after=round((known_at - prediction.at) / _DAY, 3),
        )

    def _add(self, report: OutcomeReport) -> None:
        self._current[report.prediction_id] = report.positive
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

        from bc_pipeline.prediction_log.tables import outcomes

        # The superseded row may be one that this transaction has not inserted yet.
        self.flush()
        self._connection.execute(
            sa.update(outcomes)
            .where(outcomes.c.prediction_id == prediction_id, outcomes.c.superseded_at.is_(None))
            .values(superseded_at=self._now)
        )

    def flush(self) -> None:
        import sqlalchemy as sa

        from bc_pipeline.prediction_log.tables import outcomes

        if self._new:
            self._connection.execute(sa.insert(outcomes), self._new)
            self._new = []
