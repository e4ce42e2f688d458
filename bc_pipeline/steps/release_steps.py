"""Approval, promotion, rollback, their mirror in MLflow, and what reviewers read of them."""

from __future__ import annotations

import msgspec
import structlog

from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.evaluated_rows import read_evaluated_rows
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.errors import NoChampion
from bc_pipeline.promotion import decisions, release
from bc_pipeline.promotion.approvals import (
    approver,
    decision_text,
    is_approval_required,
    objections,
)
from bc_pipeline.settings import Settings
from bc_pipeline.steps.audit_steps import list_decisions
from bc_pipeline.workspace import Result, Run, open_workspace


def approve(
    settings: Settings,
    run: Run,
    version: str,
    digest: str,
    approved: bool,
    decided_by: str,
    reason: str = "",
    one_user: str = "",
) -> Result:
    """Write a person's decision about a version, or that there was none, to the audit log.

    Parameters
    ----------
    digest : str
        Of the version's manifest, as `decide` returned it and the person saw it.
    reason : str
        Why it was decided so, for the audit log.
    one_user : str
        Why users are not told apart; empty where they are, and another person must approve than
        the one who started the run.

    Raises
    ------
    NotReleasable
        Where the person who started the run approves.
    ArtifactCorrupt
        Where the version has another manifest by now.

    Returns
    -------
    dict
        With ``overrides`` where a person had refused the version, or rolled it back, before.
    """
    workspace = open_workspace(settings, run.problem)
    refusal = objections(read_audit_log(workspace.store).trusted).get(version)
    decisions.record_approval(
        workspace.store,
        version,
        approved=approved,
        manifest_sha256=digest,
        verify_key=settings.verify_key,
        actor=decided_by,
        run_id=run.run_id,
        reason=reason,
        one_user=one_user,
    )
    result = {"version": version, "approved": approved}
    return result | ({"overrides": decision_text(refusal, version)} if refusal else {})


def needs_approval(settings: Settings, run: Run, version: str) -> Result:
    """Whether a person must decide before the version may be promoted.

    It must be where the problem, this run or an earlier one that judged the version requires it,
    and nobody has approved these very bytes. A champion needs none.
    """
    workspace = open_workspace(settings, run.problem)
    production = read_registry(workspace.store).production
    if production is not None and production.version == version:
        return {"needed": False}
    lines = read_audit_log(workspace.store).trusted
    required = workspace.problem.requires_approval or run.requires_approval
    files = versions.open_stored(workspace.store, version, settings.verify_key)
    needed = required or is_approval_required(lines, version)
    return {"needed": needed and approver(files, lines) is None}


def promote(
    settings: Settings,
    run: Run,
    version: str,
    actor: str = "pipeline",
    reason: str = "",
) -> Result:
    """Make a version that passed its gate the champion.

    Parameters
    ----------
    actor : str
        Who releases it, for the audit log.
    reason : str
        Why a person releases it, for the audit log.

    Raises
    ------
    NotReleasable
        Where its verdict does not allow it, it needs an approval that it does not have, or it
        comes from a backfilled run.
    VersionConflict
        Where the champion is no longer the one it was compared with.
    """
    workspace = open_workspace(settings, run.problem)
    result = release.promote(
        workspace.store,
        version,
        verify_key=settings.verify_key,
        run_id=run.run_id,
        actor=actor,
        requires_approval=workspace.problem.requires_approval,
        reason=reason,
    )
    return {
        "version": version,
        "generation": result.registry.generation,
        "changed": result.changed,
    }


def rollback(
    settings: Settings, problem: str, version: str | None, actor: str, reason: str = ""
) -> Result:
    """Release an earlier champion again: the named version, or the previous champion."""
    workspace = open_workspace(settings, problem)
    result = release.rollback(
        workspace.store,
        version,
        verify_key=settings.verify_key,
        actor=actor,
        reason=reason,
    )
    production = result.registry.production
    return {
        "version": production.version if production else None,
        "generation": result.registry.generation,
        "changed": result.changed,
    }


def record(settings: Settings, run: Run) -> Result:
    """Mirror the volume in MLflow; where it does not answer, that is only logged."""
    return mirror(settings, run.problem)


def mirror(settings: Settings, problem: str) -> Result:
    """Update MLflow from the volume."""
    from bc_pipeline.training.mirror import mirror as mirror_in_mlflow

    workspace = open_workspace(settings, problem)
    report = mirror_in_mlflow(
        workspace.problem,
        workspace.store,
        settings.tracking_uri,
        settings.verify_key,
    )
    if report.failed:
        # Commands say it in a line of their own.
        structlog.get_logger().info(
            "mirror_behind", problem=problem, failed=report.failed, reason=report.reason
        )
    return {"mirrored": report.mirrored, "failed": report.failed, "reason": report.reason}


def registry(settings: Settings, problem: str) -> Result:
    """The registry, and every published version."""
    workspace = open_workspace(settings, problem)
    return {
        "registry": msgspec.to_builtins(read_registry(workspace.store)),
        "versions": versions.list_versions(workspace.store),
    }


def verdict(settings: Settings, problem: str, version: str | None) -> Result:
    """The verdict of a version, or of the champion, with its figures, checks and lineage."""
    workspace = open_workspace(settings, problem)
    if version is None:
        production = read_registry(workspace.store).production
        if production is None:
            raise NoChampion(f"No model of {problem} was promoted yet.", "Name a version.")
        version = production.version
    files = versions.open_stored(workspace.store, version, settings.verify_key)
    manifest = files.manifest
    return {
        "version": manifest.version,
        "manifest_sha256": files.manifest_sha256,
        "model": manifest.recipe.title,
        "f1": manifest.metrics.get("f1"),
        "as_of": manifest.lineage.as_of,
        "run_id": manifest.lineage.run_id,
        "code_version": manifest.lineage.code_version,
        "dag": msgspec.to_builtins(manifest.lineage.dag),
        "live": manifest.lineage.live,
        "evaluation": msgspec.to_builtins(read_evaluated_rows(files)),
        "decisions": list_decisions(workspace.store, manifest.version),
        **msgspec.to_builtins(files.read_document(signed_bundle.VERDICT, Verdict)),
    }
