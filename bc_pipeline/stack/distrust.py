"""Withdraws trust from the signatures that a compromised key made from a time on.

The times in documents prove nothing: who has the key can write any. So the trusted part is what
the audit log shows up to its last line before that time, or up to a tip that was stored
elsewhere: those versions, by their manifests' digests, and the rows that they were made from. A
line of the new key lists it; the new key signs it again; everything else that the old key signed
is moved to ``distrusted/`` on the volume, and readers no longer trust the old key.

Each part may be interrupted: repeating the command goes on from the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path

import msgspec
import structlog

from bc_pipeline.artifacts.audit_log import OUTCOMES, AuditLine, AuditLog, read_audit_log
from bc_pipeline.artifacts.audit_tip import AuditTip
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_stored, open_verified
from bc_pipeline.clock import format_time, now, parse_time
from bc_pipeline.errors import ConfigError, PipelineError
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.anchor import find_anchor
from bc_pipeline.promotion.eligibility import require_verdict
from bc_pipeline.promotion.transition import change_champion, make_pointer, settled_registry
from bc_pipeline.settings import Settings
from bc_pipeline.stack.distrusted_files import move, move_unpublished, move_with_rows
from bc_pipeline.stack.resigning import (
    bundle_signer,
    file_signer,
    list_signed_files,
    resign_file,
    resign_version,
)
from bc_pipeline.stack.signing_keys import list_stores, require_former_key


@dataclass(frozen=True)
class Distrusted:
    """The effect on one problem.

    Attributes
    ----------
    last_trusted_line : int
        Of the audit log, among those of the distrusted key; 0: none.
    last_trusted_at : str or None
        Time in that line.
    trusted, distrusted : tuple of str
        Versions that the key signed.
    champion_before, champion : str or None
    anchor_before, anchor : str or None
        By the lines of the audit log that count before and after.
    moved : int
        Files and folders that were moved, beside versions.
    """

    problem: str
    last_trusted_line: int
    last_trusted_at: str | None
    trusted: tuple[str, ...]
    distrusted: tuple[str, ...]
    champion_before: str | None
    champion: str | None
    anchor_before: str | None
    anchor: str | None
    moved: int


def distrust_key(
    settings: Settings,
    key_id: str,
    since: datetime,
    *,
    reason: str,
    actor: str,
    tips: dict[str, AuditTip] | None = None,
) -> list[Distrusted]:
    """Distrust a key from a time on, in every problem of the volume.

    Parameters
    ----------
    tips : dict of str to AuditTip, optional
        Tips of audit logs by problem, stored elsewhere before `since`: later lines of the key are
        not trusted, whatever their times.

    Raises
    ------
    AuditBroken, SignatureInvalid, ArtifactCorrupt
        Where an audit log does not verify, or not with its tip.
    ConfigError
        Where the key is the one that signs, or is not a trusted one.
    """
    require_former_key(settings, key_id)
    if since > now():
        raise ConfigError("The time is in the future.", "Name a time until now.", setting="since")
    stores = list(list_stores(settings))
    plans = {}
    for store in stores:
        tip = (tips or {}).get(store.problem)
        if tip is not None:
            audit.verify(store, tip=tip)
        plans[store.problem] = _plan(store, key_id, since, tip)
    return [_distrust(store, plans[store.problem], since, reason, actor) for store in stores]


@dataclass(frozen=True)
class _Plan:
    """The signatures of a key that stay trusted, by the audit log."""

    key_id: str
    log: AuditLog
    trusted_lines: list[AuditLine]
    declared: AuditLine | None
    trusted: tuple[str, ...]
    distrusted: tuple[str, ...]


def _plan(store: Store, key_id: str, since: datetime, tip: AuditTip | None) -> _Plan:
    log = read_audit_log(store)
    declared = log.distrusted_keys.get(key_id)
    if declared is not None:
        lines = log.lines[: declared.details["trusted_sequence"]]
    else:
        lines = list(takewhile(lambda line: parse_time(line.at) < since, log.lines))
        lines = lines[: tip.sequence] if tip else lines
    known = {(line.version, line.details.get("manifest_sha256")) for line in lines}
    trusted: list[str] = []
    distrusted: list[str] = []
    for version in list_versions(store):
        signer, sha256 = bundle_signer(store, store.version(version))
        if signer == key_id:
            (trusted if (version, sha256) in known else distrusted).append(version)
    return _Plan(key_id, log, lines, declared, tuple(trusted), tuple(distrusted))


def _distrust(store: Store, plan: _Plan, since: datetime, reason: str, actor: str) -> Distrusted:
    with settled_registry(store) as (registry, _, _):
        if plan.declared is None and plan.log.lines:
            _declare(store, plan, registry.generation, since, reason, actor)
        for version in plan.trusted:
            resign_version(store, version)
        inputs = _inputs(store, plan.distrusted)
        moved = 0
        for path in list_signed_files(store):
            if path == store.registry or file_signer(store, path) != plan.key_id:
                continue
            if path in inputs:
                resign_file(store, path)
            else:
                move_with_rows(store, path, plan.key_id)
                moved += 1
        after = _trusted_registry(store, plan, registry, actor)
        for version in plan.distrusted:
            move(store, store.version(version), plan.key_id)
        moved += move_unpublished(store, plan.key_id)
    structlog.get_logger().warning(
        "key_distrusted", problem=store.problem, key_id=plan.key_id, versions=plan.distrusted
    )
    return Distrusted(
        problem=store.problem,
        last_trusted_line=len(plan.trusted_lines),
        last_trusted_at=plan.trusted_lines[-1].at if plan.trusted_lines else None,
        trusted=plan.trusted,
        distrusted=plan.distrusted,
        champion_before=registry.production.version if registry.production else None,
        champion=after.production.version if after.production else None,
        anchor_before=_anchor(plan.log),
        anchor=_anchor(read_audit_log(store)),
        moved=moved,
    )


def _anchor(log: AuditLog) -> str | None:
    anchor = find_anchor(log.trusted)
    return anchor.version if anchor else None


def _declare(
    store: Store, plan: _Plan, generation: int, since: datetime, reason: str, actor: str
) -> None:
    versions = {
        version: bundle_signer(store, store.version(version))[1] for version in plan.trusted
    }
    audit.append(
        store,
        "key_distrusted",
        generation=generation,
        actor=actor,
        details={
            "key_id": plan.key_id,
            "since": format_time(since),
            "reason": reason,
            "trusted_sequence": len(plan.trusted_lines),
            "trusted_sha256": plan.trusted_lines[-1].sha256 if plan.trusted_lines else "",
            "trusted_versions": versions,
            "distrusted_versions": list(plan.distrusted),
        },
    )


def _inputs(store: Store, distrusted: tuple[str, ...]) -> set[Path]:
    """Documents that the trusted versions were made from."""
    paths: set[Path] = set()
    for version in set(list_versions(store)) - set(distrusted):
        try:
            lineage = open_stored(store, version, store.verify_key).manifest.lineage
        except PipelineError:
            continue
        paths |= {store.dataset_document(lineage.dataset)}
        paths |= {store.validation_document(lineage.validation)}
        paths |= {store.validation_results(lineage.validation)}
        for batch in lineage.batches:
            paths |= {store.batch_document(batch), store.quarantined(batch)}
            paths |= {store.batch_history(batch)}
    return paths


def _trusted_registry(store: Store, plan: _Plan, registry: Registry, actor: str) -> Registry:
    """Sign the registry anew, with pointers to trusted versions only."""

    def is_trusted(pointer: Pointer | None) -> bool:
        return pointer is not None and pointer.version not in plan.distrusted

    champions = _earlier_champions(store, plan)
    production = registry.production
    if production is not None and not is_trusted(production):
        production = next(champions, None)
    named = production.version if production else None
    previous = registry.previous
    if previous is not None and (not is_trusted(previous) or previous.version == named):
        previous = next((one for one in champions if one.version != named), None)
    after = Registry(
        problem=store.problem,
        generation=registry.generation,
        production=production,
        staging=registry.staging if is_trusted(registry.staging) else None,
        previous=previous,
    )
    if production == registry.production:
        if registry.generation or store.registry.exists():
            write_registry(store, after)
        return after
    return change_champion(
        store,
        registry,
        msgspec.structs.replace(after, generation=registry.generation + 1),
        "rollback" if production else "withdrawal",
        actor=actor,
        at=format_time(now()),
        distrusted_key=plan.key_id,
    )


def _earlier_champions(store: Store, plan: _Plan) -> Iterator[Pointer]:
    """Champions of the trusted part of the log, the last one first, each once."""
    seen: set[str] = set()
    for line in reversed(plan.trusted_lines):
        if line.event not in OUTCOMES or line.champion is None or line.version in seen:
            continue
        seen.add(line.version)
        try:
            files = open_verified(store, line.version, store.verify_key)
            files.require_manifest(line.details["manifest_sha256"])
            yield make_pointer(
                files,
                require_verdict(files),
                format_time(now()),
                line.details.get("approved_by"),
            )
        except PipelineError:
            continue
