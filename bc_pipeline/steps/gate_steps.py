"""From an evaluated challenger to a published version with its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bc_pipeline.artifacts import signed_bundle, versions, work_folder
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.promotion import decisions as recorded
from bc_pipeline.promotion.recomputation import require_recomputed
from bc_pipeline.settings import Settings
from bc_pipeline.steps.data_steps import split_dataset
from bc_pipeline.steps.evaluation_steps import measure
from bc_pipeline.workspace import Result, Run, Workspace, open_workspace

if TYPE_CHECKING:
    from bc_pipeline.data.split import Split

GOLDEN_ROWS = 16


def decide(settings: Settings, run: Run, version: str) -> Result:
    """Judge the challenger, and publish it as a version with its verdict, passed or not.

    Every file of the challenger is verified, and its evaluation is computed again from the
    signed models, rows and results of cross-validation.

    Raises
    ------
    NotStored
        Where the challenger was not exported or not evaluated.
    SignatureInvalid, ArtifactCorrupt
        Naming the files that are missing, differ or were added.
    EvidenceMismatch
        Naming what differs from the evaluation.
    """
    from bc_pipeline.promotion import decisions, judge

    workspace = open_workspace(settings, run.problem)
    if not workspace.store.version(version).exists():
        challenger = work_folder.open_evaluated(
            workspace.store, version, settings.verify_key, settings.artifact_cipher()
        )
        parts = split_dataset(workspace, challenger.manifest.lineage.dataset)
        _require_evidence(workspace, challenger, parts)
        judge.judge(workspace, challenger, parts.holdout.values[:GOLDEN_ROWS], run)
    stored = versions.open_stored(workspace.store, version, settings.verify_key)
    verdict = stored.read_document(signed_bundle.VERDICT, Verdict)
    decisions.record_verdict(
        workspace.store,
        version,
        verify_key=settings.verify_key,
        run_id=run.run_id,
        live=run.live,
        requires_approval=run.requires_approval or workspace.problem.requires_approval,
        requested_by=run.requested_by,
    )
    return {
        "version": version,
        "passed": verdict.passed,
        "kind": verdict.kind,
        "reasons": list(verdict.reasons),
        "tie": is_tie(verdict),
        "champion": verdict.champion,
        "digest": stored.manifest_sha256,
    }


def choose(settings: Settings, run: Run, decisions: Sequence[Result]) -> Result:
    """The winner among the challengers of a run, which alone may be approved and promoted.

    The first one that passed: `challengers` puts the selected candidate before the champion's
    recipe. Where none passed, it is the first one, with the reasons of all.

    Parameters
    ----------
    decisions : sequence of dict
        What `decide` returned for each challenger, in their order.

    Returns
    -------
    dict
        The winner's decision; under ``challengers`` the version, kind and result of each, and
        under ``conclusion`` how the run ends where none passed.
    """
    passed = [decision for decision in decisions if decision["passed"]]
    winner = passed[0] if passed else decisions[0]
    if len(passed) > 1:
        # Each `decide` put its version into `staging`, in any order: the winner belongs there.
        workspace = open_workspace(settings, run.problem)
        recorded.record_verdict(
            workspace.store,
            winner["version"],
            verify_key=settings.verify_key,
            run_id=run.run_id,
            live=run.live,
        )
    reasons = winner["reasons"]
    if not passed and len(decisions) > 1:
        reasons = [
            f"{each['version']} ({each['kind']}): {reason}"
            for each in decisions
            for reason in each["reasons"]
        ]
    summary = [{name: each[name] for name in ("version", "kind", "passed")} for each in decisions]
    conclusion = None
    if not passed:
        # Decisions of earlier releases do not say whether they are ties.
        ties = all(each.get("tie", False) for each in decisions)
        conclusion = Conclusion.TIE if ties else Conclusion.GATE_FAILED
    return {**winner, "reasons": reasons, "challengers": summary, "conclusion": conclusion}


def is_tie(verdict: Verdict) -> bool:
    """Whether all that another recipe lacks is evidence that it is better."""
    failed = [check.name for check in verdict.checks if check.blocking and not check.passed]
    return failed == ["recipe_gain"]


def _require_evidence(workspace: Workspace, challenger: VersionFiles, parts: Split) -> None:
    """Compute the evaluation again, against the champion that it names.

    Raises
    ------
    EvidenceMismatch
    """
    stored = challenger.read_document(signed_bundle.EVALUATION, Evaluation)
    settings, registry = workspace.settings, read_registry(workspace.store)
    production = registry.production.version if registry.production else None
    named = stored.champion.version if stored.champion else None
    # After another release the evaluation may name the champion of before; the verdict does so
    # too, and is refused by the promotion.
    is_former = stored.champion_generation < registry.generation
    if not is_former and (stored.champion_generation, named) != (registry.generation, production):
        raise EvidenceMismatch(
            f"{challenger.manifest.version} was compared with {named or 'no champion'} at "
            f"generation {stored.champion_generation}, which never was the champion of it.",
            "Run the evaluate step again.",
            champion=named or "",
            challenger=challenger.manifest.version,
        )
    champion = None
    if named is not None:
        champion = versions.open_stored(
            workspace.store, named, settings.verify_key, settings.artifact_cipher()
        )
    computed = measure(workspace, challenger, champion, stored.champion_generation, parts)
    require_recomputed(stored, computed)
