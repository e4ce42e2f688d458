"""The gate: evidence and policy in, verdict out.

`decide` is a pure function. It reads no file, knows no clock and holds no opinion: what
must be shown is the problem's `GatePolicy`, what was measured is the `Evaluation`. A
rejection is a value. Only evidence that is not about the same rows is an error, because
then there is nothing to judge.

Three kinds of verdict:

first
    There is no champion. Floors, slices, export and smoke test decide.
refresh
    The champion's recipe on other data. It passes where it clears what a first model must
    clear and is not worse than the champion on the same holdout rows: newer data is reason
    enough to replace an equal model.
switch
    Another recipe. It must beat the champion's recipe in paired repeated cross-validation;
    the holdout, judged as for a refresh, can only veto. A tie keeps the champion.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bc_pipeline.artifacts.evidence import Check, Evaluation, Kind, Smoke, Verdict
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.problems.base import GatePolicy
from bc_pipeline.promotion import checks


def decide(
    policy: GatePolicy, evaluation: Evaluation, smoke: Smoke, *, looks_back: bool = False
) -> Verdict:
    """Judge a challenger.

    Parameters
    ----------
    smoke : Smoke
        What the real service answered with the challenger's files.
    looks_back : bool
        For a backfill, which is about older data on purpose: its age is shown, and does
        not block.

    Raises
    ------
    EvidenceMismatch
        Where champion and challenger were not scored on the same rows.
    """
    challenger, champion = evaluation.challenger, evaluation.champion
    _need_same_rows(evaluation)
    kind = _kind(evaluation)
    live = champion is not None and champion.version == challenger.version
    shown: tuple[Check, ...] = (
        (checks.already_live(),)
        if live
        else tuple(_checks(policy, evaluation, smoke, kind, looks_back=looks_back))
    )
    failed = [check for check in shown if check.blocking and not check.passed]
    return Verdict(
        problem=evaluation.problem,
        kind=kind,
        passed=not failed,
        better=not live and all(check.passed for check in shown) and _gains(evaluation, kind),
        challenger=challenger.version,
        champion=champion.version if champion is not None else None,
        champion_generation=evaluation.champion_generation,
        policy_digest=policy.digest,
        rows_digest=challenger.holdout.rows_digest,
        reasons=tuple(check.rule for check in failed),
        checks=shown,
    )


def _kind(evaluation: Evaluation) -> Kind:
    if evaluation.champion is None:
        return "first"
    return "refresh" if evaluation.champion.recipe == evaluation.challenger.recipe else "switch"


def _need_same_rows(evaluation: Evaluation) -> None:
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
    policy: GatePolicy, evaluation: Evaluation, smoke: Smoke, kind: Kind, *, looks_back: bool
) -> Iterator[Check]:
    """Every check of the verdict, in the order in which a reviewer reads them."""
    challenger, champion = evaluation.challenger, evaluation.champion
    for floor in policy.floors:
        yield checks.floor(policy, floor, evaluation)
    yield checks.worst_slice(policy, challenger.holdout, "holdout")
    yield checks.worst_slice(policy, evaluation.cross_validation, "cross_validation")
    if champion is not None:
        if kind == "switch":
            yield checks.recipe_gain(policy, champion, evaluation.recipe_comparison)
        yield checks.f1_tie(policy, champion, challenger)
        for margin in policy.margins:
            yield checks.no_harm(policy, margin, evaluation.holdout_comparisons)
        yield checks.same_schema(policy, champion, challenger)
        age = checks.data_age(policy, champion, challenger)
        yield msgspec.structs.replace(age, blocking=age.blocking and not looks_back)
    yield checks.frozen_threshold(policy, evaluation)
    yield checks.rows_apart(policy, evaluation)
    yield checks.parity_difference(policy, evaluation.parity)
    yield checks.parity_flips(policy, evaluation.parity)
    yield checks.smoke_answers(policy, smoke)
    yield checks.smoke_agreement(policy, smoke)
    yield checks.smoke_latency(policy, smoke)


def _gains(evaluation: Evaluation, kind: Kind) -> bool:
    """Whether a challenger that fails no check is shown to be better, not merely as good."""
    if kind == "switch":
        return True  # It passed `recipe_gain`: that is the proof.
    return any(
        comparison.metric in ("f1", "brier") and checks.lies_above_zero(comparison.interval)
        for comparison in evaluation.holdout_comparisons
    )
