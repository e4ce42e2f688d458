"""What a published version says for and against its own release."""

from __future__ import annotations

from bc_pipeline.artifacts.evidence import Evaluation, Verdict
from bc_pipeline.artifacts.files import decode_record
from bc_pipeline.artifacts.versions import EVALUATION, VERDICT, VersionFiles
from bc_pipeline.errors import NotReleasable


def read_verdict(files: VersionFiles) -> Verdict:
    """The verdict among a version's files, from verified bytes.

    Raises
    ------
    NotReleasable
        Where the version was published without one.
    ArtifactCorrupt
    """
    _require(files, VERDICT)
    return decode_record(files.read(VERDICT), Verdict, files.folder / VERDICT)


def reasons_against(files: VersionFiles, rejected_by: str | None = None) -> tuple[str, ...]:
    """Every reason why a version must not be released; none where it may be.

    Parameters
    ----------
    rejected_by : str or None
        Who decided against it, where somebody did.

    Raises
    ------
    NotReleasable
        Where verdict or evaluation are missing altogether.
    ArtifactCorrupt
    """
    verdict = read_verdict(files)
    _require(files, EVALUATION)
    evaluation = decode_record(files.read(EVALUATION), Evaluation, files.folder / EVALUATION)
    manifest = files.manifest
    reasons = list(verdict.reasons)
    if not verdict.passed and not reasons:
        reasons.append("its verdict is a rejection")
    reasons += [
        f"blocking check failed: {check.rule}"
        for check in verdict.checks
        if verdict.passed and check.blocking and not check.passed
    ]
    judged = (verdict.problem, verdict.challenger, verdict.champion_generation)
    measured = (
        evaluation.problem,
        evaluation.challenger.version,
        evaluation.champion_generation,
    )
    own = (manifest.problem, manifest.version, verdict.champion_generation)
    if judged != own:
        reasons.append(f"its verdict is about {verdict.challenger}")
    if measured != judged:
        reasons.append("its verdict and its evaluation do not belong together")
    if not manifest.lineage.live:
        reasons.append("it comes from a backfilled run, which moves no pointer")
    if rejected_by is not None:
        reasons.append(f"{rejected_by} rejected it")
    return tuple(reasons)


def _require(files: VersionFiles, name: str) -> None:
    if name not in files.manifest.files:
        raise NotReleasable(
            f"{files.manifest.version} cannot be released: it holds no {name}.",
            version=files.manifest.version,
            reasons=(f"it holds no {name}",),
        )
