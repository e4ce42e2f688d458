"""Checks of the evidence, of the export, and of the service with the challenger's files."""

from __future__ import annotations

from bc_pipeline.artifacts.evidence import Evaluation, Parity
from bc_pipeline.artifacts.verdict import Check, Smoke
from bc_pipeline.errors import counted
from bc_pipeline.problems.policies import GatePolicy
from bc_pipeline.promotion.check import at_most, is_known, missing_note


def frozen_threshold(evaluation: Evaluation) -> Check:
    """The holdout was judged at the threshold that was chosen on train rows."""
    chosen, used = evaluation.cross_validation.threshold, evaluation.challenger.holdout.threshold
    return Check(
        "frozen_threshold",
        "the same threshold in cross-validation and on the holdout",
        is_known(chosen, used) and chosen == used,
        challenger=used,
        bound=chosen,
    )


def rows_apart(evaluation: Evaluation) -> Check:
    """No row was used for both the choice of the model and the verdict."""
    train = set(evaluation.cross_validation.keys)
    shared = sum(key in train for key in evaluation.challenger.holdout.keys)
    return Check(
        "rows_apart",
        "no row both in train and in the holdout",
        shared == 0,
        challenger=float(shared),
        bound=0.0,
    )


def parity_difference(policy: GatePolicy, parity: Parity) -> Check:
    """The exported model's probabilities are the fitted model's."""
    return Check(
        "parity_difference",
        f"exported and fitted probabilities at most {policy.parity_bound:g} apart",
        parity.rows > 0 and at_most(parity.worst_difference, policy.parity_bound),
        challenger=parity.worst_difference,
        bound=policy.parity_bound,
        note=_parity_rows(parity),
    )


def parity_flips(parity: Parity) -> Check:
    """The exported model makes the fitted model's calls."""
    return Check(
        "parity_flips",
        "no call differs between the exported and the fitted model",
        parity.rows > 0 and parity.flips == 0,
        challenger=float(parity.flips),
        bound=0.0,
        note=_parity_rows(parity),
    )


def _parity_rows(parity: Parity) -> str:
    return f"{counted(parity.rows, 'row')}: train rows, jittered ones, and some on thresholds."


def smoke_answers(smoke: Smoke) -> Check:
    """The service started with the challenger's files and answered."""
    return Check(
        "smoke_answers",
        "the service starts with the new version and answers every golden row",
        smoke.passed and smoke.rows > 0,
        note=smoke.reason or f"{counted(smoke.rows, 'golden row')} answered.",
    )


def smoke_agreement(policy: GatePolicy, smoke: Smoke) -> Check:
    """The service's probabilities are the evaluated ones."""
    bound = policy.parity_bound
    rule = f"the service's probabilities at most {bound:g} from the evaluated ones"
    return _measured("smoke_agreement", rule, smoke.worst_difference, bound)


def smoke_latency(policy: GatePolicy, smoke: Smoke) -> Check:
    """The service answers within its latency budget."""
    bound = policy.smoke_latency_ms
    rule = f"median answer of the service within {bound:g} ms"
    return _measured("smoke_latency", rule, smoke.median_ms, bound)


def _measured(name: str, rule: str, value: float | None, bound: float) -> Check:
    """The check of a figure of the smoke test, which fails where nothing was measured."""
    return Check(
        name,
        rule,
        at_most(value, bound),
        challenger=value,
        bound=bound,
        note=missing_note(value),
    )
