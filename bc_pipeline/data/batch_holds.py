"""Checks new batches by themselves, and holds those that differ from the reference.

A batch with enough new rows is judged alone. Smaller ones count until there are enough of them, in
the order of arrival, and are then judged together: every row that counts is judged once. A held
batch counts in no snapshot as of the arrival of the last batch that was judged with it, or later. A
row that repeats one of a held batch is judged like a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import structlog

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.signed_document import write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import format_time, now
from bc_pipeline.data.batch_check import CheckedRows, Finding, check_batch
from bc_pipeline.data.batch_history import (
    BatchCheck,
    BatchFinding,
    BatchHistory,
    batch_state,
    read_history,
)
from bc_pipeline.data.batches import BatchDocument, list_batches, read_batch
from bc_pipeline.data.near_twins import NO_GROUP, GroupIndex
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.snapshot import Dataset
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import BatchCheckPolicy

# Rows of each class from which a champion's dataset is the reference.
_MINIMUM_ROWS = 30
HELD = "batch_held"
Record = Callable[[str, BatchCheck], object]
"""Writes the audit line of a batch that is held, before it is."""


@dataclass(frozen=True, eq=False)
class _Pending:
    """A batch that waits for its check, with the rows whose sample no earlier batch adds."""

    document: BatchDocument
    history: BatchHistory
    rows: CheckedRows


def check_new_batches(
    problem: Problem, store: Store, champion: Dataset | None, record: Record
) -> list[BatchCheck]:
    """Judge the batches that wait for their check; returns what was judged in this call.

    Parameters
    ----------
    champion : Dataset or None
        The champion's rows; None, or few of a class: the problem's own reference is used.
    record : callable
        Called for every batch that is held.
    """
    policy = problem.batch_check
    if policy is None:
        return []
    with locked(store.lock(store.batches)):
        if all(history.check is not None for _, history in _waiting(store)):
            return []
        judged: list[BatchCheck] = []
        while True:
            pending = _new_rows(problem, store, _hold_again(store, _waiting(store)))
            checks = [
                _judge(problem, store, policy, champion, group, record)
                for group in _grouped(pending, policy.minimum_rows)
            ]
            if all(check.verdict != "held" for check in checks):
                return judged + checks
            # Later batches that repeat rows of a batch that was held just now wait again.
            judged += [check for check in checks if check.verdict != "too few rows"]


def _waiting(store: Store) -> list[tuple[BatchDocument, BatchHistory]]:
    """Batches without a decision whose check is missing or had too few rows, by arrival."""
    histories = ((batch, read_history(store, batch.batch)) for batch in list_batches(store))
    return [
        (batch, history)
        for batch, history in histories
        if batch.check
        and not history.events
        and (history.check is None or history.check.verdict == "too few rows")
    ]


def _hold_again(
    store: Store, waiting: list[tuple[BatchDocument, BatchHistory]]
) -> list[tuple[BatchDocument, BatchHistory]]:
    """Leave out the batches that the audit log knows a decision about, and hold held ones again.

    Their history was removed, or the run that held them was killed before it was written.
    """
    recorded = {
        line.details["batch"]: line
        for line in read_audit_log(store).trusted
        if "batch" in line.details
    }
    for batch, history in waiting:
        line = recorded.get(batch.batch)
        if line is not None and line.event == HELD:
            _write(store, history, msgspec.convert(line.details["check"], BatchCheck))
    return [pair for pair in waiting if pair[0].batch not in recorded]


def _new_rows(
    problem: Problem, store: Store, waiting: list[tuple[BatchDocument, BatchHistory]]
) -> list[_Pending]:
    """The waiting batches, each with its rows that repeat no row of an earlier batch.

    Rows of withdrawn and held batches are not known: otherwise a copy of them would count unjudged.
    """
    histories = {batch.batch: history for batch, history in waiting}
    index, known, pending = GroupIndex(problem.near_twins), set[str](), {}
    for batch in sorted(list_batches(store), key=lambda one: (one.number, one.arrival)):
        if batch_state(batch, read_history(store, batch.batch)) in ("withdrawn", "held"):
            continue
        rows = read_batch(problem, store, batch)
        is_new = index.find(rows.values)[:, 0] == NO_GROUP
        is_new &= np.array([key not in known for key in rows.keys])
        index.add(rows.values[is_new])
        known.update(rows.keys)
        if batch.batch in histories:
            positive = problem.labels.to_positive(rows.codes).astype(bool)
            new = CheckedRows(rows.values[is_new], positive[is_new])
            pending[batch.batch] = _Pending(batch, histories[batch.batch], new)
    return [pending[batch.batch] for batch, _ in waiting]


def _grouped(pending: Iterable[_Pending], minimum: int) -> list[list[_Pending]]:
    """Batches with enough rows alone, the others together; the last group may have too few."""
    groups, small = [], list[_Pending]()
    for batch in pending:
        if len(batch.rows) >= minimum:
            groups.append([batch])
            continue
        small.append(batch)
        if sum(len(one.rows) for one in small) >= minimum:
            groups.append(small)
            small = []
    return [*groups, small] if small else groups


def _judge(
    problem: Problem,
    store: Store,
    policy: BatchCheckPolicy,
    champion: Dataset | None,
    group: Sequence[_Pending],
    record: Record,
) -> BatchCheck:
    rows = CheckedRows(
        np.concatenate([batch.rows.values for batch in group]),
        np.concatenate([batch.rows.positive for batch in group]),
    )
    findings: list[Finding] = []
    enough = len(rows) >= policy.minimum_rows
    name, reference = _reference(problem, champion, rows)
    if enough:
        findings = check_batch(problem.schema.names, reference, rows, policy)
    check = BatchCheck(
        verdict="held" if findings else "passed" if enough else "too few rows",
        at=format_time(now()),
        batches=tuple(batch.document.batch for batch in group),
        rows=len(rows),
        reference=name,
        level=policy.level,
        held_from=format_time(max(one.document.arrival for one in group)) if findings else "",
        findings=tuple(BatchFinding(*vars(finding).values()) for finding in findings),
    )
    for batch in group:
        if findings:
            record(batch.document.batch, check)
        if enough or batch.history.check is None:
            _write(store, batch.history, check)
    structlog.get_logger().info(
        "batches checked",
        problem=problem.name,
        batches=check.batches,
        verdict=check.verdict,
        rows=check.rows,
        findings=len(findings),
    )
    return check


def _reference(
    problem: Problem, champion: Dataset | None, rows: CheckedRows
) -> tuple[str, CheckedRows]:
    """Name and rows of the champion's dataset without the batch's rows, if it has enough rows."""
    if champion is not None:
        judged = set(row_keys(rows.values))
        others = np.array([key not in judged for key in champion.keys], dtype=bool)
        positive = champion.positive[others].astype(bool)
        if min(positive.sum(), (~positive).sum()) >= _MINIMUM_ROWS:
            return champion.digest, CheckedRows(champion.values[others], positive)
    own = problem.load_reference()
    return "", CheckedRows(own.values, problem.labels.to_positive(own.codes).astype(bool))


def _write(store: Store, history: BatchHistory, check: BatchCheck) -> None:
    write_signed_document(
        store, store.batch_history(history.batch), msgspec.structs.replace(history, check=check)
    )
