"""Decisions about batches: they are withdrawn, restored, or accepted where they are held."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.signed_document import write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now
from bc_pipeline.data.batch_history import (
    BatchEvent,
    Decision,
    State,
    active_batches,
    batch_state,
    read_history,
)
from bc_pipeline.data.batches import BatchDocument, find_batch, list_batches, read_batch
from bc_pipeline.data.conflicts import AcceptedRows
from bc_pipeline.errors import BatchConflict, ConfigError, NotStored, counted
from bc_pipeline.problems.base import Problem

_REASON_CHARACTERS = 1000
# The states in which a decision changes anything.
_DECIDABLE: dict[str, tuple[State, ...]] = {
    "withdrawn": ("counts", "restored", "accepted", "held", "not checked"),
    "restored": ("withdrawn",),
    "accepted": ("held", "not checked"),
}
Record = Callable[[BatchEvent], object]
"""Writes the audit line of a decision, before the decision takes effect."""


def decide_batch(
    problem: Problem,
    store: Store,
    batch: str,
    decision: Decision,
    *,
    actor: str,
    reason: str,
    record: Record,
) -> BatchEvent | None:
    """Let a batch count, or not count, as of now or later; None where that changes nothing.

    A withdrawn batch does not come back by its landed file: the same bytes are the same batch.

    Raises
    ------
    ConfigError
        Where there is no reason.
    NotStored
        Where there is no such batch.
    BatchConflict
        Where the batch is to count, and batches that count have other labels for its rows, or other
        values for its ids.
    """
    reason = checked_reason(reason)
    with locked(store.lock(store.batches)):
        document = find_batch(store, batch)
        if document is None:
            raise NotStored(
                f"There is no batch {batch!r} of {store.problem}.",
                "`bc-pipeline batch list` names them.",
            )
        history = read_history(store, batch)
        last = history.last_event()
        if batch_state(document, history) not in _DECIDABLE[decision]:
            return None
        if decision != "withdrawn":
            _require_no_conflicts(problem, store, document)
        # A clock that was set back does not change the order of decisions.
        at = max(format_time(now()), last.at if last else "")
        decided = BatchEvent(decision, at, actor, reason)
        record(decided)
        write_signed_document(
            store,
            store.batch_history(batch),
            msgspec.structs.replace(history, events=(*history.events, decided)),
        )
    structlog.get_logger().info(f"batch {decision}", problem=store.problem, batch=batch, at=at)
    return decided


def quarantined_because_of(store: Store, batch: str) -> dict[str, int]:
    """Other batches with quarantined rows that contradict a batch, and how many of each kind.

    Returns
    -------
    dict of str to int
        By name of the other batch; a row with two reasons counts twice.
    """
    counts = {}
    for other in list_batches(store):
        rows = sum(n for reason, n in other.reasons.items() if reason.endswith(f"batch {batch}"))
        if rows:
            counts[other.batch] = rows
    return counts


def checked_reason(reason: str) -> str:
    """A reason for the audit log, on one line.

    Raises
    ------
    ConfigError
    """
    reason = " ".join(reason.split())
    if not reason or len(reason) > _REASON_CHARACTERS or not reason.isprintable():
        raise ConfigError(
            "--reason is missing, too long or not printable; the audit log needs one.",
            f"Say why in 1 to {_REASON_CHARACTERS} printable characters, without data of patients.",
            setting="--reason",
        )
    return reason


def _require_no_conflicts(problem: Problem, store: Store, document: BatchDocument) -> None:
    rows = read_batch(problem, store, document)
    conflicts = []
    for other in active_batches(store):
        if other.batch == document.batch:
            continue
        known = AcceptedRows(problem, store)
        known.add(other.batch, read_batch(problem, store, other))
        count = known.count_contradictions(rows)
        if count:
            conflicts.append((other.batch, count))
    if conflicts:
        listed = ", ".join(f"{counted(count, 'row')} of {other}" for other, count in conflicts)
        raise BatchConflict(
            f"Rows of batch {document.batch} contradict {listed}.",
            "Withdraw those batches first, or land the rows that are right in a file of their own.",
            batch=document.batch,
            conflicts=tuple(other for other, _ in conflicts),
        )
