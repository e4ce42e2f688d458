"""Promotion and rollback: which version production names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bc_pipeline.artifacts.audit_log import AuditLine
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.artifacts.versions import open_verified
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import (
    NoChampion,
    NotReleasable,
    VersionConflict,
    VersionNotFound,
)
from bc_pipeline.promotion.approvals import approver, is_approval_required
from bc_pipeline.promotion.eligibility import (
    compared_with_champion,
    release_blockers,
    releases_by_version,
    require_verdict,
)
from bc_pipeline.promotion.transition import PIPELINE, make_pointer, release, settled_registry


@dataclass(frozen=True)
class ReleaseResult:
    """The registry after a release, and whether it changed."""

    registry: Registry
    changed: bool


def promote(
    store: Store,
    version: str,
    *,
    verify_key: Path,
    actor: str = PIPELINE,
    run_id: str | None = None,
    approved_by: str | None = None,
    requires_approval: bool = False,
    reason: str = "",
) -> ReleaseResult:
    """Make a version the champion, if its verdict allows it and the champion is still the same.

    Repeating it changes nothing: a version in production stays there, and one that was replaced
    is not released again, which only a rollback does.

    Parameters
    ----------
    approved_by : str, optional
        Who approved it; by default as the audit log says.
    requires_approval : bool
        Whether the problem requires an approval; the run that judged it may require one, too.
    reason : str
        Why a person promotes it, for the audit log.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        With every reason: verdict, evaluation, approval, backfilled run.
    VersionConflict
        Where the champion is not the one that the verdict is about.
    """
    files = open_verified(store, version, verify_key)
    at = format_time(now())
    with settled_registry(store) as (registry, lines, _):
        if _in_production(registry, files) or version in releases_by_version(lines):
            return ReleaseResult(registry, changed=False)
        verdict = require_verdict(files)
        approved_by = approved_by or approver(files, lines)
        reasons = release_blockers(files, lines)
        if approved_by is None and (requires_approval or is_approval_required(lines, version)):
            reasons += (f"it needs an approval of manifest {files.manifest_sha256}",)
        if reasons:
            raise NotReleasable(
                f"{version} cannot be promoted: {'; '.join(reasons)}.",
                version=version,
                reasons=reasons,
            )
        if not compared_with_champion(verdict, registry):
            raise _conflict(registry, verdict)
        pointer = make_pointer(files, verdict, at, approved_by)
        registry = release(store, registry, "promotion", pointer, actor, run_id, reason)
    return ReleaseResult(registry, changed=True)


def rollback(
    store: Store,
    version: str | None = None,
    *,
    verify_key: Path,
    actor: str,
    reason: str = "",
) -> ReleaseResult:
    """Put an earlier champion back into production.

    Parameters
    ----------
    version : str, optional
        One that was in production before; by default the previous champion. A rollback
        without a version that was interrupted after the registry changed is concluded, and
        no other champion is released.
    reason : str
        Why, for the audit log.

    Raises
    ------
    NoChampion, VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        Where the version was never in production.
    """
    at = format_time(now())
    with settled_registry(store) as (registry, lines, concluded):
        if registry.production is None:
            raise NoChampion(f"No model of {store.problem} was promoted yet.")
        if version is None and concluded is not None and concluded.event == "rollback":
            return ReleaseResult(registry, changed=True)
        target = version or (registry.previous.version if registry.previous else None)
        if target is None:
            first = registry.production.version
            raise VersionNotFound(f"{first} is the first champion: there is none to go back to.")
        files = open_verified(store, target, verify_key)
        if _in_production(registry, files):
            return ReleaseResult(registry, changed=False)
        earlier = _earlier_release(registry, lines, target)
        approved_by = earlier.details.get("approved_by") if earlier else None
        pointer = make_pointer(files, require_verdict(files), at, approved_by)
        registry = release(store, registry, "rollback", pointer, actor, None, reason)
    return ReleaseResult(registry, changed=True)


def _conflict(registry: Registry, verdict: Verdict) -> VersionConflict:
    champion = registry.production.version if registry.production else None
    expected = f"{verdict.champion or 'no champion'} at generation {verdict.champion_generation}"
    current = f"{champion or 'no champion'} at generation {registry.generation}"
    return VersionConflict(
        f"{verdict.challenger} was compared with {expected}, and now there is {current}.",
        "Start a new run, as of a later time: it is compared with the champion of then.",
        expected=expected,
        found=current,
    )


def _in_production(registry: Registry, files: VersionFiles) -> bool:
    """Whether a version is the champion; its manifest must be the one that was released."""
    production = registry.production
    if production is None or production.version != files.manifest.version:
        return False
    files.require_manifest(production.manifest_sha256)
    return True


def _earlier_release(registry: Registry, lines: list[AuditLine], version: str) -> AuditLine | None:
    """The last release of a version; None where only the registry shows that there was one.

    Raises
    ------
    NotReleasable
        Where it was never in production.
    """
    releases = releases_by_version(lines)
    previous = registry.previous.version if registry.previous else None
    if version not in releases and version != previous:
        raise NotReleasable(
            f"{version} was never in production.",
            f"Choose one of: {', '.join(sorted(releases)) or 'none'}.",
            version=version,
            reasons=("it was never in production",),
        )
    return releases.get(version)
