"""Verdicts and approvals recorded, champions promoted and rolled back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from bc_pipeline.artifacts.evidence import Verdict
from bc_pipeline.artifacts.files import locked, write_record
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import VersionFiles, open_stored
from bc_pipeline.clock import format_time, now, parse_time
from bc_pipeline.errors import (
    ArtifactCorrupt,
    NoChampion,
    NotReleasable,
    VersionConflict,
    VersionNotFound,
)
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.audit import AuditLine
from bc_pipeline.promotion.evidence import read_verdict, reasons_against
from bc_pipeline.promotion.transition import release, settle

PIPELINE = "pipeline"


@dataclass(frozen=True)
class ReleaseResult:
    """The registry after a release, and whether it changed."""

    registry: Registry
    changed: bool


def record_verdict(
    store: Store,
    version: str,
    *,
    verify_key: Path,
    run_id: str | None = None,
    live: bool = True,
    actor: str = PIPELINE,
    at: str | None = None,
) -> Registry:
    """Write a version's verdict to the audit log, once; let ``staging`` name a passed one.

    Parameters
    ----------
    live : bool
        False for a backfilled run: only the log is written.
    at : str, optional
        ISO 8601; now, unless given.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        Where the version holds no verdict.
    """
    files = _open_whole(store, version, verify_key)
    verdict = read_verdict(files)
    at = _moment(at)
    with locked(store.registry_lock):
        registry, lines, _ = settle(store)
        if not any(line.event == "verdict" and line.version == version for line in lines):
            audit.append(
                store,
                "verdict",
                version=version,
                generation=registry.generation,
                actor=actor,
                at=at,
                run_id=run_id,
                details={
                    "passed": verdict.passed,
                    "kind": verdict.kind,
                    "better": verdict.better,
                    "live": live and files.manifest.lineage.live,
                    "champion": verdict.champion,
                    "champion_generation": verdict.champion_generation,
                    "policy_digest": verdict.policy_digest,
                    "manifest_sha256": files.manifest_sha256,
                    "reasons": list(verdict.reasons),
                },
            )
        staged = registry.staging is not None and registry.staging.version == version
        may_follow = (
            live
            and not reasons_against(files, _rejected_by(lines, version))
            and version not in _releases_of(lines)
            and _is_champion(registry, verdict)
        )
        if may_follow and not staged:
            pointer = _pointer(files, verdict, at, approved_by=None)
            registry = msgspec.structs.replace(registry, staging=pointer)
            write_record(store.registry, registry)
    structlog.get_logger().info(
        "verdict_recorded", problem=store.problem, version=version, passed=verdict.passed
    )
    return registry


def record_approval(
    store: Store,
    version: str,
    *,
    approved: bool,
    manifest_sha256: str,
    verify_key: Path,
    actor: str,
    run_id: str | None = None,
    at: str | None = None,
) -> Registry:
    """Write a person's decision to the audit log; a rejected version leaves ``staging``.

    The last decision counts.

    Parameters
    ----------
    manifest_sha256 : str
        Of the manifest that the person was asked about: the decision is about these bytes.

    Raises
    ------
    VersionNotFound, SignatureInvalid, AuditBroken
    ArtifactCorrupt
        Also where the version is not the one that the person was asked about.
    """
    files = _open_whole(store, version, verify_key)
    if files.manifest_sha256 != manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {version} is not the one that {actor} decided about.",
            "Ask again.",
            path=str(files.folder),
        )
    at = _moment(at)
    with locked(store.registry_lock):
        registry, _, _ = settle(store)
        audit.append(
            store,
            "approval",
            version=version,
            generation=registry.generation,
            actor=actor,
            at=at,
            run_id=run_id,
            details={"approved": approved, "manifest_sha256": files.manifest_sha256},
        )
        if not approved and registry.staging and registry.staging.version == version:
            registry = msgspec.structs.replace(registry, staging=None)
            write_record(store.registry, registry)
    return registry


def promote(
    store: Store,
    version: str,
    *,
    verify_key: Path,
    actor: str = PIPELINE,
    run_id: str | None = None,
    approved_by: str | None = None,
    at: str | None = None,
) -> ReleaseResult:
    """Make a version the champion, if its verdict allows it and the champion is still the same.

    Calling it again is harmless: a version in production stays, and one that was replaced
    since does not come back (that is a rollback's business).

    Parameters
    ----------
    approved_by : str, optional
        Who approved it, where approval was asked for.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        With every reason: verdict, evaluation, approval, backfilled run.
    VersionConflict
        Where the champion is not the one that the verdict is about.
    """
    files = _open_whole(store, version, verify_key)
    at = _moment(at)
    with locked(store.registry_lock):
        registry, lines, _ = settle(store)
        if _in_production(registry, files) or version in _releases_of(lines):
            return ReleaseResult(registry, changed=False)
        verdict = read_verdict(files)
        reasons = reasons_against(files, _rejected_by(lines, version))
        if reasons:
            raise NotReleasable(
                f"{version} cannot be promoted: {'; '.join(reasons)}.",
                version=version,
                reasons=reasons,
            )
        if not _is_champion(registry, verdict):
            raise _conflict(registry, verdict)
        pointer = _pointer(files, verdict, at, approved_by)
        registry = release(store, registry, "promotion", pointer, actor, run_id)
    return ReleaseResult(registry, changed=True)


def rollback(
    store: Store,
    version: str | None = None,
    *,
    verify_key: Path,
    actor: str,
    run_id: str | None = None,
    at: str | None = None,
) -> ReleaseResult:
    """Put an earlier champion back into production.

    Parameters
    ----------
    version : str, optional
        One that was in production before; by default the champion before this one. Where
        a rollback without a version was cut short after it had moved the pointer, this
        concludes it instead of going on to the next.

    Raises
    ------
    NoChampion, VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        Where the version was never in production.
    """
    at = _moment(at)
    with locked(store.registry_lock):
        registry, lines, concluded = settle(store)
        if registry.production is None:
            raise NoChampion(f"No model of {store.problem} was promoted yet.")
        if version is None and concluded is not None and concluded.event == "rollback":
            return ReleaseResult(registry, changed=True)
        target = version or (registry.previous.version if registry.previous else None)
        if target is None:
            raise VersionNotFound(f"{registry.production.version} is the first champion.")
        files = _open_whole(store, target, verify_key)
        if _in_production(registry, files):
            return ReleaseResult(registry, changed=False)
        known = _releases_of(lines)
        previous = registry.previous
        if target not in known and not (previous and previous.version == target):
            raise NotReleasable(
                f"{target} was never in production.",
                "Promote it, or choose one of: " + (", ".join(sorted(known)) or "none") + ".",
                version=target,
                reasons=("it was never in production",),
            )
        approved_by = known[target].details.get("approved_by") if target in known else None
        pointer = _pointer(files, read_verdict(files), at, approved_by)
        registry = release(store, registry, "rollback", pointer, actor, run_id)
    return ReleaseResult(registry, changed=True)


# Under the registry's lock --------------------------------------------------------------------


def _is_champion(registry: Registry, verdict: Verdict) -> bool:
    """Whether the champion is the one that the verdict compared the challenger with."""
    live = registry.production.version if registry.production else None
    return (registry.generation, live) == (verdict.champion_generation, verdict.champion)


def _conflict(registry: Registry, verdict: Verdict) -> VersionConflict:
    live = registry.production.version if registry.production else None
    expected = f"{verdict.champion or 'no champion'} at generation {verdict.champion_generation}"
    found = f"{live or 'no champion'} at generation {registry.generation}"
    return VersionConflict(
        f"{verdict.challenger} was compared with {expected}, and now there is {found}.",
        "Start a new run, as of a later time: it is compared with the champion of then.",
        expected=expected,
        found=found,
    )


def _in_production(registry: Registry, files: VersionFiles) -> bool:
    live = registry.production
    if live is None or live.version != files.manifest.version:
        return False
    if live.manifest_sha256 != files.manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {live.version} is not the one that was released.",
            path=str(files.folder),
        )
    return True


def _releases_of(lines: list[AuditLine]) -> dict[str, AuditLine]:
    """The last release of each version that ever was in production."""
    return {line.version: line for line in lines if line.event in audit.OUTCOMES}


def _rejected_by(lines: list[AuditLine], version: str) -> str | None:
    """Who rejected a version, where that was the last decision about it."""
    decisions = [line for line in lines if line.event == "approval" and line.version == version]
    return decisions[-1].actor if decisions and not decisions[-1].details["approved"] else None


# Values ----------------------------------------------------------------------------------------


def _open_whole(store: Store, version: str, verify_key: Path) -> VersionFiles:
    files = open_stored(store, version, verify_key)
    files.verify_all()
    return files


def _pointer(files: VersionFiles, verdict: Verdict, at: str, approved_by: str | None) -> Pointer:
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


def _moment(at: str | None) -> str:
    return format_time(now() if at is None else parse_time(at))
