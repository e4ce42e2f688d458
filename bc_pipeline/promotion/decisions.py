"""Verdicts and approvals in the audit log, and the alias ``staging`` that follows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import structlog

from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.artifacts.versions import open_verified
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import ArtifactCorrupt, NotReleasable
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.approvals import approver, has_verdict, person_of, requesters
from bc_pipeline.promotion.eligibility import (
    compared_with_champion,
    release_blockers,
    releases_by_version,
    require_verdict,
)
from bc_pipeline.promotion.transition import PIPELINE, make_pointer, settled_registry


def record_verdict(
    store: Store,
    version: str,
    *,
    verify_key: Path,
    run_id: str | None = None,
    live: bool = True,
    requires_approval: bool = False,
    requested_by: str | None = None,
) -> Registry:
    """Write a version's verdict to the audit log, once; ``staging`` names it if it passed.

    Parameters
    ----------
    live : bool
        False for a backfilled run: only the log is written.
    requires_approval : bool
        Whether the version may be promoted only after an approval. A second verdict can add that.
    requested_by : str or None
        Who started the run, and so may not approve it.

    Raises
    ------
    VersionNotFound, SignatureInvalid, ArtifactCorrupt, AuditBroken
    NotReleasable
        Where the version has no verdict.
    """
    files = open_verified(store, version, verify_key)
    verdict = require_verdict(files)
    at = format_time(now())
    with settled_registry(store) as (registry, lines, _):
        if not has_verdict(lines, version, requires_approval):
            audit.append(
                store,
                "verdict",
                version=version,
                generation=registry.generation,
                actor=PIPELINE,
                at=at,
                run_id=run_id,
                details=_verdict_details(files, verdict, live)
                | ({"requires_approval": True} if requires_approval else {})
                | ({"requested_by": requested_by} if requested_by else {}),
            )
        if (
            live
            and not (registry.staging and registry.staging.version == version)
            and not release_blockers(files, lines)
            and version not in releases_by_version(lines)
            and compared_with_champion(verdict, registry)
        ):
            pointer = make_pointer(files, verdict, at, approved_by=None)
            registry = msgspec.structs.replace(registry, staging=pointer)
            write_registry(store, registry)
    structlog.get_logger().info(
        "verdict_recorded", problem=store.problem, version=version, passed=verdict.passed
    )
    return registry


def _own_request(version: str, actor: str) -> NotReleasable:
    return NotReleasable(
        f"{actor} requested {version}, so somebody else must approve it.",
        version=version,
        reasons=("requester and approver are the same person",),
    )


def record_approval(
    store: Store,
    version: str,
    *,
    approved: bool,
    manifest_sha256: str,
    verify_key: Path,
    actor: str,
    run_id: str | None = None,
    reason: str = "",
    one_user: str = "",
) -> Registry:
    """Write a person's decision to the audit log; a rejected version leaves ``staging``.

    The last decision about a version is valid.

    Parameters
    ----------
    manifest_sha256 : str
        Of the manifest that the person saw.
    reason : str
        Why it was decided so.
    one_user : str
        Why the person who requested the version may approve it too: users are not told apart.
        Empty where they are.

    Raises
    ------
    VersionNotFound, SignatureInvalid, AuditBroken
    NotReleasable
        Where the person who requested the version approves it, or it was released before.
    ArtifactCorrupt
        Also where the version has another manifest by now.
    """
    files = open_verified(store, version, verify_key)
    if files.manifest_sha256 != manifest_sha256:
        raise ArtifactCorrupt(
            f"The manifest of {version} is not the one that {actor} decided about.",
            "Ask again.",
            path=str(files.folder),
        )
    with settled_registry(store) as (registry, lines, _):
        same = approved and person_of(actor) in requesters(lines, version)
        if same and not one_user:
            raise _own_request(version, actor)
        if version in releases_by_version(lines):
            # A task that is tried again after the release writes its decision only once.
            if approver(files, lines) == actor and approved:
                return registry
            raise NotReleasable(
                f"{version} was released already: there is nothing to decide.",
                "`bc-pipeline rollback` brings another champion back.",
                version=version,
                reasons=("it was released already",),
            )
        audit.append(
            store,
            "approval",
            version=version,
            generation=registry.generation,
            actor=actor,
            run_id=run_id,
            details={"approved": approved, "manifest_sha256": files.manifest_sha256}
            | ({"reason": reason} if reason else {})
            | ({"requester_approved": one_user} if same else {}),
        )
        if not approved and registry.staging and registry.staging.version == version:
            registry = msgspec.structs.replace(registry, staging=None)
            write_registry(store, registry)
    return registry


def _verdict_details(files: VersionFiles, verdict: Verdict, live: bool) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "kind": verdict.kind,
        "better": verdict.better,
        "live": live and files.manifest.lineage.live,
        "champion": verdict.champion,
        "champion_generation": verdict.champion_generation,
        "policy_digest": verdict.policy_digest,
        "manifest_sha256": files.manifest_sha256,
        "reasons": list(verdict.reasons),
    }
