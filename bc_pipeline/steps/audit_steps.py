"""What the audit log says, and whether it is intact."""

from __future__ import annotations

from typing import Any

import msgspec

from bc_pipeline.artifacts.audit_log import AuditLine, read_audit_log
from bc_pipeline.artifacts.audit_tip import decode_tip
from bc_pipeline.artifacts.remembered_tip import FILE as REMEMBERED_TIP
from bc_pipeline.artifacts.remembered_tip import require_remembered
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import NotStored
from bc_pipeline.promotion import audit as log
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import Result, open_workspace

# The first of the two lines of each release says the same as the second.
_NOT_LISTED = {"release_started"}


def audit(settings: Settings, problem: str, tip: bytes | None = None) -> Result:
    """Check the audit log: chain, signatures, times, and the registry.

    Where the prediction service remembers a tip of it in a folder that is here, that one too.

    Parameters
    ----------
    tip : bytes, optional
        A tip of this log, as `audit_tip` returned it and somebody stored it elsewhere.

    Raises
    ------
    AuditBroken
    ArtifactCorrupt, SignatureInvalid
        Where the tip is none, or was changed.
    """
    workspace = open_workspace(settings, problem)
    known = None if tip is None else decode_tip(tip, "The tip")
    report = log.verify(workspace.store, known)
    if problem == settings.service_problem:
        require_remembered(workspace.store, settings.records / REMEMBERED_TIP)
    return {
        "problem": problem,
        "lines": report.lines,
        "unsigned_lines": report.unsigned_lines,
        "distrusted_lines": report.distrusted_lines,
        "generation": report.generation,
        "compared_with_tip": known.sequence if known else None,
        "log": str(workspace.store.audit),
    }


def audit_tip(settings: Settings, problem: str) -> Result:
    """Check the audit log, and return its tip, which proves later that nothing was cut off.

    Raises
    ------
    AuditBroken
    NotStored
        Where the log has no line.
    """
    workspace = open_workspace(settings, problem)
    report = log.verify(workspace.store)
    if report.tip is None:
        raise NotStored(f"The audit log of {problem} has no line yet.")
    tip: Result = msgspec.to_builtins(report.tip)
    return tip


def audit_lines(settings: Settings, problem: str, version: str = "") -> list[Result]:
    """The lines of the audit log, the latest first: what happened when, by whom, and why.

    Parameters
    ----------
    version : str
        Only lines about this one, also where it was replaced.

    Raises
    ------
    AuditBroken
    """
    return _list_lines(open_workspace(settings, problem).store, version)


def list_decisions(store: Store, version: str) -> list[Result]:
    """Approvals, releases and rollbacks of a version, the latest first.

    Raises
    ------
    AuditBroken
    """
    return [line for line in _list_lines(store, version) if line["event"] != "verdict"]


def _list_lines(store: Store, version: str) -> list[Result]:
    return [
        _describe(line)
        for line in reversed(read_audit_log(store).trusted)
        if line.event not in _NOT_LISTED
        and (not version or version in (line.version, line.details.get("replaces")))
    ]


def _describe(line: AuditLine) -> dict[str, Any]:
    """A line for people; ``refusal`` is an approval that was not given."""
    refused = line.event == "approval" and not line.details.get("approved")
    return {
        "sequence": line.sequence,
        "at": line.at,
        "event": "refusal" if refused else line.event,
        "version": line.version,
        "generation": line.generation,
        "actor": line.actor,
        "reason": line.details.get("reason", ""),
        "run_id": line.run_id,
        "details": msgspec.to_builtins(line.details),
    }
