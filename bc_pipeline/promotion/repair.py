"""Makes the registry again from the audit log and the signed versions."""

from __future__ import annotations

import msgspec
import structlog

from bc_pipeline.artifacts.audit_log import OUTCOMES, AuditLine, AuditLog, read_audit_log
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import open_verified
from bc_pipeline.errors import StoreError
from bc_pipeline.promotion.audit_rules import require_agreement, unfinished_release
from bc_pipeline.promotion.eligibility import (
    compared_with_champion,
    release_blockers,
    releases_by_version,
    require_verdict,
)
from bc_pipeline.promotion.release import ReleaseResult
from bc_pipeline.promotion.transition import conclude, make_pointer


def repair_registry(store: Store) -> ReleaseResult:
    """Write the registry that the audit log describes, where the stored one is not that.

    A release that was started and not concluded is concluded. The champion must verify as a
    whole, and have the manifest that was released.

    Raises
    ------
    AuditBroken
        Where the log itself is broken: nothing can be derived from it.
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, NotReleasable
        Where the champion cannot be used.
    """
    with locked(store.registry_lock):
        log = read_audit_log(store)
        lines = log.lines
        try:
            registry = read_registry(store)
            require_agreement(registry, lines)
        except StoreError:
            registry = _registry_of(store, log)
            write_registry(store, registry)
            structlog.get_logger().warning(
                "registry_repaired", problem=store.problem, generation=registry.generation
            )
            changed = True
        else:
            changed = False
        started = unfinished_release(lines)
        if changed and started is not None:
            conclude(store, registry, started)
    return ReleaseResult(registry, changed=changed)


def _registry_of(store: Store, log: AuditLog) -> Registry:
    outcomes = [line for line in log.lines if line.event in OUTCOMES]
    # The line that starts a release has the fields of its outcome, and was written after the
    # release was found allowed.
    last = unfinished_release(log.lines) or (outcomes[-1] if outcomes else None)
    production = _pointer(store, last) if last and last.champion else None
    replaced = last.details.get("replaces") if last else None
    registry = Registry(
        problem=store.problem,
        generation=last.generation if last else 0,
        production=production,
        previous=_previous(store, replaced, outcomes),
    )
    return msgspec.structs.replace(registry, staging=_staging(store, registry, log.trusted))


def _pointer(store: Store, line: AuditLine) -> Pointer:
    files = open_verified(store, line.version, store.verify_key)
    files.require_manifest(line.details["manifest_sha256"])
    return make_pointer(files, require_verdict(files), line.at, line.details.get("approved_by"))


def _previous(store: Store, version: str | None, outcomes: list[AuditLine]) -> Pointer | None:
    """The champion that was replaced; None where its version does not verify any more."""
    releases = [line for line in outcomes if line.version == version]
    try:
        return _pointer(store, releases[-1]) if releases else None
    except StoreError:
        return None


def _staging(store: Store, registry: Registry, lines: list[AuditLine]) -> Pointer | None:
    """The last version that passed its gate against this champion and was not released."""
    released = releases_by_version(lines)
    for line in reversed(lines):
        if line.event != "verdict" or not line.details["live"] or line.version in released:
            continue
        try:
            files = open_verified(store, line.version, store.verify_key)
            verdict = require_verdict(files)
            blocked = release_blockers(files, lines)
        except StoreError:
            continue
        if not blocked and compared_with_champion(verdict, registry):
            return make_pointer(files, verdict, line.at, approved_by=None)
    return None
