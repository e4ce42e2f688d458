"""What is live: promotion, rollback, and the mirror of both in MLflow."""

from __future__ import annotations

import structlog

from bc_pipeline.artifacts import versions
from bc_pipeline.steps.run import Result, Run, enter


def approve(run: Run, version: str, digest: str, approved: bool, decided_by: str) -> Result:
    """Write what a person decided about a version, or that nobody did, to the audit log.

    Parameters
    ----------
    digest : str
        Of the version's manifest, as `decide` gave it and the person was shown it.

    Raises
    ------
    ArtifactCorrupt
        Where the version is another one by now.
    """
    from bc_pipeline.promotion import release

    room = enter(run.problem)
    release.record_approval(
        room.store,
        version,
        approved=approved,
        manifest_sha256=digest,
        verify_key=room.settings.verify_key,
        actor=decided_by,
        run_id=run.run_id,
    )
    return {"version": version, "approved": approved}


def promote(
    run: Run, version: str, approved_by: str | None = None, actor: str = "pipeline"
) -> Result:
    """Make a version that passed its gate the champion.

    Parameters
    ----------
    approved_by : str, optional
        Who approved it, where approval was asked for.
    actor : str
        Who asks for the release, for the audit log.

    Raises
    ------
    NotReleasable
        Where its verdict, or its being a backfilled run's, does not allow it.
    VersionConflict
        Where the champion is no longer the one it was judged against.
    """
    from bc_pipeline.promotion import release

    room = enter(run.problem)
    result = release.promote(
        room.store,
        version,
        verify_key=room.settings.verify_key,
        run_id=run.run_id,
        approved_by=approved_by,
        actor=actor,
    )
    return {
        "version": version,
        "generation": result.registry.generation,
        "changed": result.changed,
    }


def rollback(problem: str, version: str | None, actor: str) -> Result:
    """Bring an earlier champion back: the one before, or the one named."""
    from bc_pipeline.promotion import release

    room = enter(problem)
    result = release.rollback(
        room.store,
        version,
        verify_key=room.settings.verify_key,
        actor=actor,
    )
    production = result.registry.production
    return {
        "version": production.version if production else None,
        "generation": result.registry.generation,
        "changed": result.changed,
    }


def record(run: Run) -> Result:
    """Mirror the volume in MLflow; that it is away is logged and fails nothing."""
    return mirror(run.problem)


def mirror(problem: str) -> Result:
    """Bring MLflow up to what the volume says."""
    from bc_pipeline.training import mirror as mirroring

    room = enter(problem)
    report = mirroring.mirror(
        room.problem, room.store, room.settings.tracking_uri, room.settings.verify_key
    )
    if report.failed:
        structlog.get_logger().warning(
            "mirror_behind", problem=problem, failed=report.failed, reason=report.reason
        )
    return {"mirrored": report.mirrored, "failed": report.failed, "reason": report.reason}


def registry(problem: str) -> Result:
    """What the registry says, and every published version."""
    import msgspec

    room = enter(problem)
    return {
        "registry": msgspec.to_builtins(versions.read_registry(room.store)),
        "versions": versions.list_versions(room.store),
    }
