"""Which batches count, and since when: what was checked and decided about them.

A batch counts as of a time if it had arrived and was neither held nor withdrawn by then, so
snapshots as of a time before a withdrawal stay what they were. Check and decisions are in a
document beside the batches, because a batch never changes. The batch itself says that it needs a
check: where that document is missing, it does not count. Before rows are collected, the documents
are held against the audit log: removing one, or putting an earlier one back, changes no dataset
unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from bc_pipeline.artifacts.audit_log import Event, read_audit_log
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.signed_document import read_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import parse_time
from bc_pipeline.data.batches import BatchDocument, list_batches
from bc_pipeline.errors import ArtifactCorrupt, NotStored

Decision = Literal["withdrawn", "restored", "accepted"]
Recorded = Literal["withdrawn", "restored", "accepted", "held"]
DECISIONS: Mapping[Event, Recorded] = MappingProxyType(
    {
        "batch_withdrawn": "withdrawn",
        "batch_restored": "restored",
        "batch_accepted": "accepted",
        "batch_held": "held",
    }
)
"""Holds and decisions by the event of their line in the audit log."""
HISTORY_REMEDY = (
    "Decide again (`bc-pipeline batch withdraw`, `restore` or `accept`), ingest again where it was "
    "held, or take data/*/batch_history from a backup."
)


class BatchEvent(Document, frozen=True):
    """A decision about a batch.

    Attributes
    ----------
    at : str
        ISO 8601, UTC: snapshots as of this time or later follow it.
    """

    event: Decision
    at: str
    actor: str
    reason: str


class BatchFinding(Document, frozen=True):
    """A `batch_check.Finding` in a batch's history."""

    test: str
    feature: str | None
    statistic: float
    p: float


class BatchCheck(Document, frozen=True, kw_only=True):
    """How a batch, or several small ones together, compared with the reference.

    Attributes
    ----------
    verdict : {"passed", "too few rows", "held"}
        A batch of too few rows counts, until it is judged together with later ones.
    at : str
        ISO 8601, UTC.
    batches : tuple of str
        What was judged together.
    rows : int
        Rows that were judged: those whose sample no earlier batch has.
    reference : str
        The champion's dataset; empty where it was the problem's own reference.
    level : float
        Bound on the probability that clean rows are held.
    held_from : str
        Snapshots as of this time or later are without the batch; empty unless it is held.
    """

    verdict: Literal["passed", "too few rows", "held"]
    at: str
    batches: tuple[str, ...]
    rows: int
    reference: str
    level: float
    held_from: str = ""
    findings: tuple[BatchFinding, ...] = ()


class BatchHistory(Document, frozen=True, kw_only=True):
    """The check of a batch, and all decisions about it in the order of time."""

    format: int = 1
    batch: str
    problem: str
    events: tuple[BatchEvent, ...]
    check: BatchCheck | None = None

    def last_event(self, moment: datetime | None = None) -> BatchEvent | None:
        """The last decision, or the last one by a time."""
        events = [e for e in self.events if moment is None or parse_time(e.at) <= moment]
        return events[-1] if events else None


def read_history(store: Store, batch: str) -> BatchHistory:
    """The decisions about a batch; none where it counts since it arrived."""
    try:
        return read_signed_document(store, store.batch_history(batch), BatchHistory)
    except NotStored:
        return BatchHistory(batch=batch, problem=store.problem, events=())


def is_withdrawn(store: Store, batch: str) -> bool:
    last = read_history(store, batch).last_event()
    return last is not None and last.event == "withdrawn"


State = Literal["counts", "held", "not checked", "withdrawn", "restored", "accepted"]


def batch_state(batch: BatchDocument, history: BatchHistory) -> State:
    """The last decision about a batch; without one, the result of its check."""
    last = history.last_event()
    if last is not None:
        return last.event
    if batch.check and history.check is None:
        return "not checked"
    return "held" if history.check and history.check.held_from else "counts"


def held_batches(store: Store) -> list[tuple[BatchDocument, BatchHistory]]:
    """The batches that are held or not checked, and wait for a decision."""
    histories = ((batch, read_history(store, batch.batch)) for batch in list_batches(store))
    return [pair for pair in histories if batch_state(*pair) in ("held", "not checked")]


def recorded_decisions(store: Store) -> dict[str, list[Recorded]]:
    """Holds and decisions of each batch by the trusted lines of the audit log; no repeats in a row.

    Raises
    ------
    AuditBroken
    """
    recorded: dict[str, list[Recorded]] = {}
    for line in read_audit_log(store).trusted:
        decision = DECISIONS.get(line.event)
        if decision is not None:
            decisions = recorded.setdefault(line.details["batch"], [])
            # A line is written before the document: after a kill the decision is made again.
            if decisions[-1:] != [decision]:
                decisions.append(decision)
    return recorded


def require_recorded(store: Store) -> None:
    """Require that every hold and decision of the audit log is in its batch's document.

    Raises
    ------
    ArtifactCorrupt
        Naming every batch for which that is not so.
    AuditBroken
    """
    if not _without_recorded(store):
        return
    # A decision may be under way: its line is written, and its document is not yet.
    with locked(store.lock(store.batches)):
        missing = _without_recorded(store)
    if missing:
        listed = "; ".join(f"batch {batch} was {decision}" for batch, decision in missing)
        raise ArtifactCorrupt(
            f"By the audit log, {listed}; data/{store.problem}/batch_history does not have it.",
            HISTORY_REMEDY,
            path=str(store.batch_histories),
        )


def _without_recorded(store: Store) -> list[tuple[str, Recorded]]:
    missing = []
    for batch, recorded in recorded_decisions(store).items():
        if not store.batch_document(batch).exists():
            continue
        history = read_history(store, batch)
        events = [event.event for event in history.events]
        decisions = [each for each in recorded if each != "held"]
        if decisions:
            is_missing = len(events) < len(decisions) or events[-1] != decisions[-1]
        else:
            is_missing = not events and not (history.check and history.check.held_from)
        if is_missing:
            missing.append((batch, recorded[-1]))
    return missing


def counting_batches(store: Store, as_of: datetime) -> list[tuple[datetime, BatchDocument]]:
    """The batches that count as of a time, inclusive, each with the time from which it counts.

    In that order. A batch that was restored or accepted counts from then on, whenever it had
    arrived.

    Raises
    ------
    ArtifactCorrupt
        Where the audit log has decisions that the documents do not have.
    AuditBroken
    """
    require_recorded(store)
    counting = []
    for batch in list_batches(store):
        since = _counts_since(batch, read_history(store, batch.batch), as_of)
        if since is not None and since <= as_of:
            counting.append((since, batch.batch, batch))
    return [(since, batch) for since, _, batch in sorted(counting, key=lambda item: item[:2])]


def _counts_since(batch: BatchDocument, history: BatchHistory, as_of: datetime) -> datetime | None:
    last, check = history.last_event(as_of), history.check
    if last is not None:
        return None if last.event == "withdrawn" else parse_time(last.at)
    if batch.check and check is None:
        return None
    is_held = check is not None and check.held_from and parse_time(check.held_from) <= as_of
    return None if is_held else batch.arrival


def active_batches(store: Store) -> list[BatchDocument]:
    """The batches that are not withdrawn, those of a time to come and held ones included."""
    return [batch for batch in list_batches(store) if not is_withdrawn(store, batch.batch)]


def withdrawn_batches(store: Store) -> list[tuple[BatchDocument, datetime]]:
    """The batches that are withdrawn, each with the time from which it does not count."""
    withdrawn = []
    for batch in list_batches(store):
        last = read_history(store, batch.batch).last_event()
        if last is not None and last.event == "withdrawn":
            withdrawn.append((batch, parse_time(last.at)))
    return withdrawn
