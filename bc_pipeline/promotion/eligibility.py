"""Whether a published version may be released."""

from __future__ import annotations

from bc_pipeline.artifacts.audit_log import OUTCOMES, AuditLine
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.signed_bundle import EVALUATION, VERDICT, VersionFiles
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.errors import NotReleasable


def require_verdict(files: VersionFiles) -> Verdict:
    """The verdict of a version.

    Raises
    ------
    NotReleasable
        Where the version was published without one.
    ArtifactCorrupt
    """
    _require(files, VERDICT)
    return files.read_document(VERDICT, Verdict)


def release_blockers(files: VersionFiles, lines: list[AuditLine]) -> tuple[str, ...]:
    """Every reason why a version must not be released; empty where it may be.

    Parameters
    ----------
    lines : list of AuditLine
        The audit log, with the approvals.

    Raises
    ------
    NotReleasable
        Where verdict or evaluation are missing.
    ArtifactCorrupt
    """
    verdict = require_verdict(files)
    _require(files, EVALUATION)
    evaluation = files.read_document(EVALUATION, Evaluation)
    manifest = files.manifest
    reasons = list(verdict.reasons)
    if not verdict.passed and not reasons:
        reasons.append("its verdict is a rejection")
    reasons += [
        f"blocking check failed: {check.rule}"
        for check in verdict.checks
        if verdict.passed and check.blocking and not check.passed
    ]
    if (verdict.problem, verdict.challenger) != (manifest.problem, manifest.version):
        reasons.append(f"its verdict is about {verdict.challenger}")
    if (evaluation.problem, evaluation.challenger.version, evaluation.champion_generation) != (
        verdict.problem,
        verdict.challenger,
        verdict.champion_generation,
    ):
        reasons.append("its verdict and its evaluation do not belong together")
    if not manifest.lineage.live:
        reasons.append("it comes from a backfilled run, which moves no pointer")
    approvals = [
        line for line in lines if line.event == "approval" and line.version == manifest.version
    ]
    # The last decision about a version is valid.
    if approvals and not approvals[-1].details["approved"]:
        last = approvals[-1]
        why = last.details.get("reason")
        reasons.append(f"{last.actor} rejected it" + (f": {why}" if why else ""))
    return tuple(reasons)


def compared_with_champion(verdict: Verdict, registry: Registry) -> bool:
    """Whether the champion is still the one that the verdict compared the challenger with."""
    champion = registry.production.version if registry.production else None
    return (registry.generation, champion) == (verdict.champion_generation, verdict.champion)


def releases_by_version(lines: list[AuditLine]) -> dict[str, AuditLine]:
    """The last release of each version that ever was in production."""
    return {line.version: line for line in lines if line.event in OUTCOMES}


def _require(files: VersionFiles, name: str) -> None:
    if name not in files.manifest.files:
        raise NotReleasable(
            f"{files.manifest.version} cannot be released: it holds no {name}.",
            version=files.manifest.version,
            reasons=(f"it holds no {name}",),
        )
