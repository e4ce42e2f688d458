"""The writes of a release, in an order that stays consistent after a crash.

A release makes three writes under the registry's lock: the audit line ``release_started``,
the registry, and the audit line that names the outcome. A process that dies leaves

- before the first: nothing;
- after the first: the old champion, and a start without outcome, which the next process with
  the lock concludes as ``release_abandoned``, because the registry did not change;
- after the second: the new champion, and the same start, which is concluded as the
  ``promotion`` or ``rollback`` that it announced, because the registry did change.

So every change of production has a durable record of who made it, and each generation has one
outcome. The generation counts changes of production only: staging a challenger does not
invalidate the verdicts of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from bc_pipeline.artifacts.audit_log import OUTCOMES, AuditLine, Event, read_audit_log
from bc_pipeline.artifacts.files import locked
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.promotion.audit import append
from bc_pipeline.promotion.audit_rules import require_agreement, unfinished_release

PIPELINE = "pipeline"


@contextmanager
def settled_registry(
    store: Store,
) -> Iterator[tuple[Registry, list[AuditLine], AuditLine | None]]:
    """Lock the registry for the block, and conclude an interrupted release first.

    Yields
    ------
    registry : Registry
    lines : list of AuditLine
        Every line that counts for a decision, the conclusion included.
    concluded : AuditLine or None
        The conclusion, where a release was interrupted.

    Raises
    ------
    ArtifactCorrupt, AuditBroken
    TransientError
        Where another process locks the registry for too long.
    """
    with locked(store.registry_lock):
        registry, log = read_registry(store), read_audit_log(store)
        log.require_signed_end()
        if any(line.event in OUTCOMES for line in log.lines):
            # A registry that is lost or old must not look like a problem without a champion:
            # then the floors alone would decide about the next model.
            require_agreement(registry, log.lines)
        started = unfinished_release(log.lines)
        concluded = None if started is None else conclude(store, registry, started)
        trusted = log.trusted
        yield registry, [*trusted, concluded] if concluded else trusted, concluded


def conclude(store: Store, registry: Registry, started: AuditLine) -> AuditLine:
    """Write the outcome of an interrupted release: what the registry shows."""
    champion = registry.production.version if registry.production else None
    changed = (registry.generation, champion) == (started.generation, started.champion)
    return append(
        store,
        started.details["release"] if changed else "release_abandoned",
        version=started.version,
        generation=started.generation,
        actor=started.actor,
        at=started.at,
        run_id=started.run_id,
        details=started.details | {"recovered": True},
    )


def make_pointer(
    files: VersionFiles, verdict: Verdict, at: str, approved_by: str | None
) -> Pointer:
    manifest = files.manifest
    return Pointer(
        version=manifest.version,
        manifest_sha256=files.manifest_sha256,
        model=manifest.recipe.title,
        recipe=manifest.recipe.recipe,
        f1=manifest.metrics.get("f1"),
        metrics=manifest.metrics,
        threshold=manifest.threshold,
        dataset=manifest.lineage.dataset,
        as_of=manifest.lineage.as_of,
        kind=verdict.kind,
        promoted_at=at,
        approved_by=approved_by,
    )


def release(
    store: Store,
    registry: Registry,
    event: Event,
    pointer: Pointer,
    actor: str,
    run_id: str | None,
    reason: str = "",
) -> Registry:
    """Let production name another version; the caller holds the registry's lock.

    Returns
    -------
    Registry
        As written.
    """
    staging = registry.staging
    after = Registry(
        problem=store.problem,
        generation=registry.generation + 1,
        production=pointer,
        staging=None if staging and staging.version == pointer.version else staging,
        previous=registry.production,
    )
    return change_champion(
        store,
        registry,
        after,
        event,
        actor=actor,
        at=pointer.promoted_at,
        run_id=run_id,
        **({"reason": reason} if reason else {}),
    )


def change_champion(
    store: Store,
    before: Registry,
    after: Registry,
    event: Event,
    *,
    actor: str,
    at: str,
    run_id: str | None = None,
    **details: Any,
) -> Registry:
    """Replace the registry by one with another champion, or none, between its two audit lines.

    Returns
    -------
    Registry
        As written.
    """
    replaced, pointer = before.production, after.production
    named = pointer or replaced
    line: dict[str, Any] = {
        "version": named.version if named else "",
        "generation": after.generation,
        "actor": actor,
        "at": at,
        "run_id": run_id,
        "details": {
            "release": event,
            "replaces": replaced.version if replaced else None,
            "manifest_sha256": pointer.manifest_sha256 if pointer else None,
            "kind": pointer.kind if pointer else None,
            "approved_by": pointer.approved_by if pointer else None,
            **details,
        },
    }
    append(store, "release_started", **line)
    write_registry(store, after)
    append(store, event, **line)
    structlog.get_logger().info(
        "released",
        problem=store.problem,
        event_kind=event,
        version=pointer.version if pointer else None,
        generation=after.generation,
        replaces=line["details"]["replaces"],
    )
    return after
