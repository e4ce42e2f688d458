"""The writes that move the pointer, in an order that a crash cannot confuse.

A release makes three writes under the registry's lock: the audit line ``release_started``,
the registry, and the audit line that names the outcome. A process that dies leaves

- before the first: nothing;
- after the first: the old champion, and a start without outcome, which whoever takes the
  lock next concludes as ``release_abandoned``, since the registry never moved;
- after the second: the new champion, and the same start, which is concluded as the
  ``promotion`` or ``rollback`` that it announced, since the registry did move.

So no pointer moves without a durable record of who moved it, and each generation has one
outcome. The generation counts changes of production only: staging a challenger does not
make the verdicts of others stale.
"""

from __future__ import annotations

from typing import Any

import structlog

from bc_pipeline.artifacts.files import write_record
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import read_registry
from bc_pipeline.promotion.audit import (
    OUTCOMES,
    AuditLine,
    Event,
    append,
    read,
    require_agreement,
    unfinished_release,
)


def settle(store: Store) -> tuple[Registry, list[AuditLine], AuditLine | None]:
    """Conclude a release that was cut short; the caller holds the registry's lock.

    Returns
    -------
    registry : Registry
    lines : list of AuditLine
        Every line, the conclusion included.
    concluded : AuditLine or None
        The conclusion, where one was due.

    Raises
    ------
    ArtifactCorrupt, AuditBroken
    """
    registry, lines = read_registry(store), read(store)
    if any(line.event in OUTCOMES for line in lines):
        # A registry that is lost, or was restored from an old backup, must not pass for a
        # problem without a champion: the floors alone would then let the next model through.
        require_agreement(registry, lines)
    started = unfinished_release(lines)
    if started is None:
        return registry, lines, None
    live = registry.production.version if registry.production else None
    moved = (registry.generation, live) == (started.generation, started.version)
    concluded = append(
        store,
        started.details["release"] if moved else "release_abandoned",
        version=started.version,
        generation=started.generation,
        actor=started.actor,
        at=started.at,
        run_id=started.run_id,
        details=started.details | {"recovered": True},
    )
    return registry, [*lines, concluded], concluded


def release(
    store: Store,
    registry: Registry,
    event: Event,
    pointer: Pointer,
    actor: str,
    run_id: str | None,
) -> Registry:
    """Let production name another version: the three writes, under the registry's lock.

    Returns
    -------
    Registry
        As written.
    """
    staging, replaced = registry.staging, registry.production
    after = Registry(
        problem=store.problem,
        generation=registry.generation + 1,
        production=pointer,
        staging=None if staging and staging.version == pointer.version else staging,
        previous=replaced,
    )
    line: dict[str, Any] = {
        "version": pointer.version,
        "generation": after.generation,
        "actor": actor,
        "at": pointer.promoted_at,
        "run_id": run_id,
        "details": {
            "release": event,
            "replaces": replaced.version if replaced else None,
            "manifest_sha256": pointer.manifest_sha256,
            "kind": pointer.kind,
            "approved_by": pointer.approved_by,
        },
    }
    append(store, "release_started", **line)
    write_record(store.registry, after)
    append(store, event, **line)
    structlog.get_logger().info(
        "released",
        problem=store.problem,
        event_kind=event,
        version=pointer.version,
        generation=after.generation,
        replaces=line["details"]["replaces"],
    )
    return after
