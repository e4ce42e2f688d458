"""The check that another recipe is better than the champion's, in one of two ways.

Cross-validation on all train rows is looked at anew in each run, and its rows are mostly the same.
Rows in the order in which they came count once: their evidence adds up over runs, and may be looked
at after every row. The policy splits its error between the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bc_pipeline.artifacts.evidence import Comparison, Evaluation, SequentialEvidence, Side
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.corrected_t_test import detectable_gain
from bc_pipeline.errors import counted
from bc_pipeline.problems.policies import GatePolicy
from bc_pipeline.promotion.check import is_known, missing_note

_POWER = 0.8


def recipe_gain(policy: GatePolicy, champion: Side, evaluation: Evaluation) -> Check:
    """Another recipe must beat the champion's; a tie keeps the champion."""
    comparison = evaluation.recipe_comparison or Comparison(
        "brier", "corrected_resampled_t", None, None, None
    )
    passed = _is_lower(policy, comparison) or sequential_gain(policy, evaluation.sequential)
    return Check(
        "recipe_gain",
        _rule(policy),
        passed,
        champion=comparison.champion,
        challenger=comparison.challenger,
        interval=comparison.interval,
        bound=policy.switch_alpha,
        note=" ".join(_notes(policy, champion, evaluation, passed)),
    )


def sequential_gain(policy: GatePolicy, evidence: SequentialEvidence | None) -> bool:
    """Whether rows that came one after the other show that the challenger's recipe is better."""
    if evidence is None or policy.sequential_alpha == 0.0:
        return False
    return is_known(evidence.log_e) and evidence.log_e >= _bound(policy, evidence)


def _bound(policy: GatePolicy, evidence: SequentialEvidence) -> float:
    """Bound of the log e-value; alpha is shared equally among the compared recipes."""
    return math.log(evidence.recipes / policy.sequential_alpha)


def _is_lower(policy: GatePolicy, comparison: Comparison) -> bool:
    gain, p_value = comparison.gain, comparison.p_value
    return (
        gain is not None
        and p_value is not None
        and is_known(gain, p_value, comparison.champion, comparison.challenger)
        and gain > 0.0
        and p_value < policy.switch_alpha
    )


def _rule(policy: GatePolicy) -> str:
    rule = (
        "lower Brier score than the champion's recipe in paired repeated cross-validation "
        f"(one-sided p below {policy.switch_alpha:g})"
    )
    if policy.sequential_alpha:
        rule += f", or on new rows as they came (level {policy.sequential_alpha:g})"
    return f"{rule}; a tie keeps the champion"


def _notes(
    policy: GatePolicy, champion: Side, evaluation: Evaluation, passed: bool
) -> Iterator[str]:
    comparison, identity = evaluation.recipe_comparison, evaluation.recipe_identity
    if comparison is None and identity is not None and not identity.same:
        yield (
            f"Not measured: {identity.note} Keep the champion's builder as a candidate, and "
            "add the changed one under another name."
        )
    elif comparison is None:
        yield (
            f"Not measured: cross-validate {champion.recipe} on the challenger's dataset and "
            "evaluate again."
        )
    elif comparison.p_value is None or not is_known(comparison.p_value):
        yield missing_note(None)
    else:
        yield f"p = {comparison.p_value:.4f}."
        error = comparison.standard_error
        if not passed and error is not None and is_known(error):
            gain = detectable_gain(error, policy.switch_alpha, _POWER)
            yield (
                f"With these rows a true gain of {gain:.4f} is found with a probability of "
                f"{_POWER:.0%}."
            )
    if evaluation.sequential is not None and policy.sequential_alpha:
        yield _sequential_note(policy, evaluation.sequential)


def _sequential_note(policy: GatePolicy, evidence: SequentialEvidence) -> str:
    if evidence.champion is None or evidence.challenger is None:
        return "No new rows are counted yet."
    bound, log_e = _bound(policy, evidence), evidence.log_e
    note = (
        f"New rows: {evidence.rows}, gain {evidence.champion - evidence.challenger:+.4f}, e-value "
        f"{math.exp(min(log_e, 100.0)):.3g} of {math.exp(bound):.3g}"
    )
    if log_e >= bound:
        return f"{note}."
    if not log_e > 0.0:
        return f"{note}; they show no gain so far."
    more = math.ceil(evidence.rows * (bound - log_e) / log_e)
    return f"{note}; at this rate {counted(more, 'more row is', 'more rows are')} needed."
