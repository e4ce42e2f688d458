"""The gate: evidence and policy in, verdict out.

`decide` is a pure function of the problem's `GatePolicy`, the `Evaluation` and the smoke test;
it reads no file and no clock. A rejection is a value. Evidence about different rows is an
error, because nothing can be compared.

Three kinds of verdict:

first
    There is no champion. Floors, slices, leaks, export and smoke test decide.
refresh
    The champion's recipe on other data: the same parameters and builder, under whatever versions
    of libraries, which the verdict names. It passes where it passes as a first model and is not
    worse than the champion on the same holdout rows: an equal model of newer data replaces it.
switch
    Another recipe; also the same name and parameters with another builder. It must beat the
    champion's recipe in paired repeated cross-validation, or on new rows as they came; the
    holdout, judged as for a refresh, can only veto. A tie keeps the champion.

Refresh and switch are compared with the anchor too: what all of them lost together is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.findings import finding
from bc_pipeline.artifacts.verdict import Check, Kind, Smoke, Verdict
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.labels import Labels
from bc_pipeline.problems.policies import GatePolicy
from bc_pipeline.promotion import artifact_checks, leak_checks, model_checks
from bc_pipeline.promotion.anchor_checks import anchor_checks
from bc_pipeline.promotion.check import is_above_zero
from bc_pipeline.promotion.recipe_gain import recipe_gain


def decide(
    policy: GatePolicy,
    labels: Labels,
    evaluation: Evaluation,
    smoke: Smoke,
    *,
    looks_back: bool = False,
) -> Verdict:
    """Judge a challenger.

    Parameters
    ----------
    labels : Labels
        The problem's; their names are in the text of the checks.
    smoke : Smoke
        Result of the smoke test of the challenger's files.
    looks_back : bool
        For a backfill, whose data is older on purpose: the check of its age is advisory.

    Raises
    ------
    EvidenceMismatch
        Where champion and challenger were not scored on the same rows.
    """
    challenger, champion = evaluation.challenger, evaluation.champion
    _require_same_rows(evaluation)
    kind = _kind(evaluation)
    is_champion = champion is not None and champion.version == challenger.version
    advisory = policy.advisory | {"data_age"} if looks_back else policy.advisory
    checks: tuple[Check, ...] = (
        (model_checks.already_live(),)
        if is_champion
        else tuple(
            msgspec.structs.replace(check, blocking=check.name not in advisory)
            for check in _checks(policy, labels, evaluation, smoke, kind)
        )
    )
    failed = [check for check in checks if check.blocking and not check.passed]
    return Verdict(
        problem=evaluation.problem,
        kind=kind,
        passed=not failed,
        better=not is_champion
        and all(check.passed for check in checks)
        and _shows_gain(evaluation, kind),
        challenger=challenger.version,
        champion=champion.version if champion is not None else None,
        champion_generation=evaluation.champion_generation,
        policy_digest=policy.digest,
        rows_digest=challenger.holdout.rows_digest,
        reasons=tuple(finding(check) for check in failed),
        checks=checks,
        kind_note=_kind_note(evaluation, kind),
    )


def _kind(evaluation: Evaluation) -> Kind:
    champion, identity = evaluation.champion, evaluation.recipe_identity
    if champion is None:
        return "first"
    same_builder = identity is None or identity.same
    same = same_builder and champion.recipe == evaluation.challenger.recipe
    return "refresh" if same else "switch"


def _kind_note(evaluation: Evaluation, kind: Kind) -> str:
    identity = evaluation.recipe_identity
    if identity is None:
        return ""
    changed = ", ".join(
        f"{name} {old} -> {new}" for name, (old, new) in sorted(identity.libraries.items())
    )
    return "; ".join(filter(None, [f"{kind} under {changed}" if changed else "", identity.note]))


def _require_same_rows(evaluation: Evaluation) -> None:
    champion, challenger = evaluation.champion, evaluation.challenger
    if champion is None:
        return
    one, other = champion.holdout, challenger.holdout
    if (one.rows_digest, one.keys, one.positive) != (
        other.rows_digest,
        other.keys,
        other.positive,
    ):
        raise EvidenceMismatch(
            f"{champion.version} and {challenger.version} were not scored on the same rows.",
            "Evaluate both on the holdout of one dataset.",
            champion=one.rows_digest,
            challenger=other.rows_digest,
        )


def _checks(
    policy: GatePolicy, labels: Labels, evaluation: Evaluation, smoke: Smoke, kind: Kind
) -> Iterator[Check]:
    """Every check of the verdict, in the order in which a reviewer reads them."""
    challenger, champion = evaluation.challenger, evaluation.champion
    for floor in policy.floors:
        yield model_checks.floor(floor, evaluation)
        if floor.proven is not None:
            yield model_checks.proven(floor, floor.proven, labels, evaluation)
    yield model_checks.worst_slice(policy, labels, challenger.holdout, "holdout")
    yield model_checks.worst_slice(policy, labels, evaluation.cross_validation, "cross_validation")
    # Only a problem's samples with metadata have subgroups.
    if any(part.metadata for part in evaluation.cross_validation.slices):
        yield model_checks.worst_subgroup(policy, labels, challenger.holdout, "holdout")
        yield model_checks.worst_subgroup(
            policy, labels, evaluation.cross_validation, "cross_validation"
        )
    if policy.leak is not None:
        yield leak_checks.single_features(policy.leak, evaluation.separations)
        yield leak_checks.plausible_brier(policy.leak, evaluation.cross_validation)
    if champion is not None:
        if kind == "switch":
            yield recipe_gain(policy, champion, evaluation)
        yield model_checks.f1_tie(policy, champion, challenger)
        for margin in policy.margins:
            yield model_checks.no_harm(policy, margin, evaluation.holdout_comparisons)
        if evaluation.anchor is not None:
            yield from anchor_checks(policy, evaluation.anchor)
        yield model_checks.same_schema(champion, challenger)
        yield model_checks.data_age(champion, challenger)
    yield artifact_checks.frozen_threshold(evaluation)
    yield artifact_checks.rows_apart(evaluation)
    yield artifact_checks.parity_difference(policy, evaluation.parity)
    yield artifact_checks.parity_flips(evaluation.parity)
    yield artifact_checks.smoke_answers(smoke)
    yield artifact_checks.smoke_agreement(policy, smoke)
    yield artifact_checks.smoke_latency(policy, smoke)


def _shows_gain(evaluation: Evaluation, kind: Kind) -> bool:
    """Whether a challenger that fails no check is better, and not only as good."""
    if kind == "switch":
        return True  # It passed `recipe_gain`.
    return any(
        comparison.metric in ("f1", "brier") and is_above_zero(comparison.interval)
        for comparison in evaluation.holdout_comparisons
    )
