"""Batches: what there is, and the decisions about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.clock import format_time, now, time_defect
from bc_pipeline.errors import NotStored, StoreError
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.artifacts.audit_log import Event
    from bc_pipeline.artifacts.store import Store
    from bc_pipeline.data.batch_history import BatchCheck, BatchEvent, Decision
    from bc_pipeline.data.batches import BatchDocument

_AUDIT_EVENTS: dict[str, Event] = {
    "withdrawn": "batch_withdrawn",
    "restored": "batch_restored",
    "accepted": "batch_accepted",
}


def list_batches(settings: Settings, problem: str) -> list[Result]:
    """Every batch, by time of arrival, with what was decided about it last."""
    from bc_pipeline.data import batches

    workspace = open_workspace(settings, problem)
    return [_summary(workspace, batch) for batch in batches.list_batches(workspace.store)]


def first_arrival(settings: Settings, problem: str) -> str | None:
    """The earliest time from which rows count; None where there are none."""
    from bc_pipeline.data.batch_history import counting_batches

    batches = counting_batches(open_workspace(settings, problem).store, now())
    return format_time(batches[0][0]) if batches else None


def show_batch(settings: Settings, problem: str, batch: str) -> Result:
    """A batch with all decisions about it, and the versions that were trained on it.

    Raises
    ------
    NotStored
    """
    from bc_pipeline.data import batches
    from bc_pipeline.data.batch_decisions import quarantined_because_of
    from bc_pipeline.data.batch_history import read_history
    from bc_pipeline.steps.hold_notes import describe_check

    workspace = open_workspace(settings, problem)
    document = batches.find_batch(workspace.store, batch)
    if document is None:
        raise NotStored(
            f"There is no batch {batch!r} of {problem}.", "`bc-pipeline batch list` names them."
        )
    history = read_history(workspace.store, batch)
    return _summary(workspace, document) | {
        "read": document.read,
        "source_sha256": document.source_sha256,
        "reasons": document.reasons,
        "check": describe_check(history.check) if history.check else "",
        "findings": msgspec.to_builtins(history.check.findings) if history.check else [],
        "decisions": msgspec.to_builtins(history.events),
        "trained_on_it": _versions_with(workspace, batch),
        "quarantined_because_of_it": quarantined_because_of(workspace.store, batch),
    }


def decide_batch(
    settings: Settings, problem: str, batch: str, decision: Decision, *, actor: str, reason: str
) -> Result:
    """Let a batch count, or not count, as of now or later, with a line in the audit log.

    Returns
    -------
    dict
        As of `show_batch`; `changed` says whether the decision changed anything.

    Raises
    ------
    ConfigError
        Where there is no reason.
    NotStored
    BatchConflict
        Where the batch is to count, and batches that count contradict its rows.
    AuditBroken
        Then nothing is decided.
    """
    from bc_pipeline.data import batch_decisions

    workspace = open_workspace(settings, problem)
    decided = batch_decisions.decide_batch(
        workspace.problem,
        workspace.store,
        batch,
        decision,
        actor=actor,
        reason=reason,
        record=lambda event: _append_audit_line(workspace, batch, event),
    )
    return show_batch(settings, problem, batch) | {"changed": decided is not None}


def _append_audit_line(workspace: Workspace, batch: str, event: BatchEvent) -> None:

    audit.append(
        workspace.store,
        _AUDIT_EVENTS[event.event],
        generation=read_registry(workspace.store).generation,
        actor=event.actor,
        at=event.at,
        details={"batch": batch, "reason": event.reason},
    )


def append_hold(store: Store, batch: str, check: BatchCheck) -> None:
    """The audit line of a batch that is held."""
    audit.append(
        store,
        "batch_held",
        generation=read_registry(store).generation,
        actor="ingest",
        at=check.at,
        details={"batch": batch, "check": msgspec.to_builtins(check)},
    )


def _summary(workspace: Workspace, batch: BatchDocument) -> Result:
    from bc_pipeline.data.batch_history import batch_state, read_history

    history = read_history(workspace.store, batch.batch)
    last, state = history.last_event(), batch_state(batch, history)
    defect = time_defect(batch.arrival)
    return {
        "batch": batch.batch,
        "source": batch.source,
        "arrived_at": batch.arrived_at,
        "accepted": batch.accepted,
        "quarantined": batch.quarantined,
        "state": f"its time {defect}" if defect and state == "counts" else state,
        "since": last.at if last else batch.arrived_at,
        "actor": last.actor if last else None,
        "reason": last.reason if last else None,
    }


def _versions_with(workspace: Workspace, batch: str) -> list[str]:
    """The versions that were trained on a batch; those that do not verify are left out."""
    trained = []
    for name in versions.list_versions(workspace.store):
        try:
            stored = versions.open_stored(workspace.store, name, workspace.settings.verify_key)
        except StoreError:
            continue
        if batch in stored.manifest.lineage.batches:
            trained.append(name)
    return trained
