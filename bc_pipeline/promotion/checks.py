"""The gate's checks: each one function, one rule in words, one line of a verdict.

A number that is missing or not finite fails every check that it enters. Whether a failed
check blocks is the policy's matter: ``policy.advisory`` holds the names of those that are
only shown.
"""

from __future__ import annotations

import math

from bc_pipeline.artifacts.evidence import (
    Check,
    Comparison,
    Evaluation,
    Interval,
    Parity,
    Score,
    Side,
    Smoke,
)
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import ConfigError
from bc_pipeline.problems.base import Floor, GatePolicy, Margin, Rows

_WHERE: dict[Rows, str] = {
    "holdout": "on the holdout",
    "cross_validation": "in cross-validation",
}
_WORDS = {
    "f1": "F1",
    "f1_benign": "F1 of benign",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
}


def already_live() -> Check:
    """The challenger is the champion: there is nothing to decide."""
    return Check(
        name="already_live",
        rule="the challenger is the version in production",
        passed=True,
        blocking=True,
        note="The same inputs gave the same version; promoting it changes nothing.",
    )


def floor(policy: GatePolicy, required: Floor, evaluation: Evaluation) -> Check:
    """An absolute bound, which the first model must meet too."""
    score = (
        evaluation.challenger.holdout if required.rows == "holdout" else evaluation.cross_validation
    )
    value = score.metrics.get(required.metric)
    at_least = required.direction == "at_least"
    note = ""
    if required.metric == "sensitivity" and _known(score.sensitivity_lower_bound):
        note = f"The calls prove no less than {score.sensitivity_lower_bound:.3f} (one-sided 95 %)."
    return _check(
        policy,
        f"{required.rows}_{required.metric}",
        f"{_word(required.metric)} {_WHERE[required.rows]} {'at least' if at_least else 'at most'} "
        f"{required.bound:g}",
        _at_least(value, required.bound) if at_least else _at_most(value, required.bound),
        challenger=value,
        interval=score.intervals.get(required.metric),
        bound=required.bound,
        note=note or _missing(value),
    )


def worst_slice(policy: GatePolicy, score: Score, rows: Rows) -> Check:
    """Sensitivity of the worst slice that has enough positive rows to be judged."""
    judged = [part for part in score.slices if part.positive_rows >= policy.slice_minimum_rows]
    name = f"{rows}_worst_slice"
    rule = (
        f"sensitivity {_WHERE[rows]} at least {policy.slice_sensitivity:g} in every slice "
        f"of {policy.slice_minimum_rows} malignant rows or more"
    )
    if not judged:
        note = f"No slice has {policy.slice_minimum_rows} malignant rows: none is judged."
        return _check(policy, name, rule, True, bound=policy.slice_sensitivity, note=note)
    worst = min(judged, key=lambda part: _or_lowest(part.sensitivity))
    return _check(
        policy,
        name,
        rule,
        _at_least(worst.sensitivity, policy.slice_sensitivity),
        challenger=worst.sensitivity,
        bound=policy.slice_sensitivity,
        note=f"Worst: {worst.name}, {worst.positive_rows} malignant rows.",
    )


def recipe_gain(policy: GatePolicy, champion: Side, comparison: Comparison | None) -> Check:
    """Another recipe must beat the champion's in paired repeated cross-validation."""
    rule = (
        "lower Brier score than the champion's recipe in paired repeated cross-validation "
        f"(one-sided p below {policy.switch_alpha:g}); a tie keeps the champion"
    )
    if comparison is None:
        return _check(
            policy,
            "recipe_gain",
            rule,
            False,
            bound=policy.switch_alpha,
            note=f"Not measured: cross-validate {champion.recipe} on the challenger's dataset "
            "and evaluate again.",
        )
    gain, p_value = comparison.gain, comparison.p_value
    passed = (
        gain is not None
        and p_value is not None
        and _known(gain, p_value, comparison.champion, comparison.challenger)
        and gain > 0.0
        and p_value < policy.switch_alpha
    )
    return _check(
        policy,
        "recipe_gain",
        rule,
        passed,
        champion=comparison.champion,
        challenger=comparison.challenger,
        interval=comparison.interval,
        bound=policy.switch_alpha,
        note=f"p = {p_value:.4f}" if p_value is not None and _known(p_value) else _missing(None),
    )


def f1_tie(policy: GatePolicy, champion: Side, challenger: Side) -> Check:
    """The rule of old, new F1 >= production F1, on the same rows and with a tie."""
    old, new = champion.holdout.metrics.get("f1"), challenger.holdout.metrics.get("f1")
    bound = old - policy.f1_tie if old is not None and _known(old) else None
    return _check(
        policy,
        "f1_tie",
        f"F1 on the holdout no lower than the champion's, within {policy.f1_tie:g}",
        bound is not None and _at_least(new, bound),
        champion=old,
        challenger=new,
        bound=bound,
        note=_missing(old, new),
    )


def no_harm(policy: GatePolicy, margin: Margin, comparisons: tuple[Comparison, ...]) -> Check:
    """Non-inferiority on the holdout: not much worse, and not surely worse."""
    word = _word(margin.metric)
    rule = (
        f"{word} on the holdout at most {margin.margin:g} worse than the champion's, and the "
        f"{policy.level:.0%} interval of the gain reaching {0.0 - margin.negligible:g} or more"
    )
    name = f"no_harm_{margin.metric}"
    found = [comparison for comparison in comparisons if comparison.metric == margin.metric]
    if not found:
        note = f"Not measured: evaluate again, comparing {word}."
        return _check(policy, name, rule, False, bound=margin.margin, note=note)
    comparison = found[0]
    gain, interval = comparison.gain, comparison.interval
    high = interval.high if interval is not None else None
    low = interval.low if interval is not None else None
    known = _known(comparison.champion, comparison.challenger, low)
    return _check(
        policy,
        name,
        rule,
        known and _at_least(gain, -margin.margin) and _at_least(high, -margin.negligible),
        champion=comparison.champion,
        challenger=comparison.challenger,
        interval=interval,
        bound=margin.margin,
        note=_missing(comparison.champion, comparison.challenger, gain, low, high),
    )


def same_schema(policy: GatePolicy, champion: Side, challenger: Side) -> Check:
    """Callers of the service must not find other features than before."""
    return _check(
        policy,
        "same_schema",
        "the same features, units and ranges as the champion",
        champion.schema_fingerprint == challenger.schema_fingerprint,
    )


def data_age(policy: GatePolicy, champion: Side, challenger: Side) -> Check:
    """A model of older data must not replace one of newer data by mistake."""
    try:
        passed = parse_time(challenger.as_of) >= parse_time(champion.as_of)
    except ConfigError:
        passed = False
    return _check(
        policy,
        "data_age",
        "data no older than the champion's",
        passed,
        note=f"Champion: as of {champion.as_of}; challenger: as of {challenger.as_of}.",
    )


def frozen_threshold(policy: GatePolicy, evaluation: Evaluation) -> Check:
    """Train rows set the threshold, and the holdout was judged at that very one."""
    chosen, used = evaluation.cross_validation.threshold, evaluation.challenger.holdout.threshold
    return _check(
        policy,
        "frozen_threshold",
        "the same threshold in cross-validation and on the holdout",
        _known(chosen, used) and chosen == used,
        challenger=used,
        bound=chosen,
    )


def rows_apart(policy: GatePolicy, evaluation: Evaluation) -> Check:
    """No row served both choice and verdict."""
    train = set(evaluation.cross_validation.keys)
    shared = sum(key in train for key in evaluation.challenger.holdout.keys)
    return _check(
        policy,
        "rows_apart",
        "no row both in train and in the holdout",
        shared == 0,
        challenger=float(shared),
        bound=0.0,
    )


def parity_difference(policy: GatePolicy, parity: Parity) -> Check:
    """The exported model gives the fitted model's probabilities."""
    return _check(
        policy,
        "parity_difference",
        f"exported and fitted probabilities at most {policy.parity_bound:g} apart",
        parity.rows > 0 and _at_most(parity.worst_difference, policy.parity_bound),
        challenger=parity.worst_difference,
        bound=policy.parity_bound,
        note=f"{parity.rows} rows: train rows, jittered ones, and some on thresholds.",
    )


def parity_flips(policy: GatePolicy, parity: Parity) -> Check:
    """The exported model makes the fitted model's calls."""
    return _check(
        policy,
        "parity_flips",
        "no call differs between the exported and the fitted model",
        parity.rows > 0 and parity.flips == 0,
        challenger=float(parity.flips),
        bound=0.0,
        note=f"{parity.rows} rows: train rows, jittered ones, and some on thresholds.",
    )


def smoke_answers(policy: GatePolicy, smoke: Smoke) -> Check:
    """The real service started with the challenger's files and answered."""
    return _check(
        policy,
        "smoke_answers",
        "the service starts with the new version and answers every golden row",
        smoke.passed and smoke.rows > 0,
        note=smoke.reason or f"{smoke.rows} rows asked.",
    )


def smoke_agreement(policy: GatePolicy, smoke: Smoke) -> Check:
    """The service gives the probabilities that were evaluated."""
    return _check(
        policy,
        "smoke_agreement",
        f"the service's probabilities at most {policy.parity_bound:g} from the evaluated ones",
        _at_most(smoke.worst_difference, policy.parity_bound),
        challenger=smoke.worst_difference,
        bound=policy.parity_bound,
        note=_missing(smoke.worst_difference),
    )


def smoke_latency(policy: GatePolicy, smoke: Smoke) -> Check:
    """The service answers within its budget."""
    return _check(
        policy,
        "smoke_latency",
        f"median answer of the service within {policy.smoke_latency_ms:g} ms",
        _at_most(smoke.median_ms, policy.smoke_latency_ms),
        challenger=smoke.median_ms,
        bound=policy.smoke_latency_ms,
        note=_missing(smoke.median_ms),
    )


def lies_above_zero(interval: Interval | None) -> bool:
    """Whether the whole interval is known and positive."""
    if interval is None or interval.low is None:
        return False
    return _known(interval.low, interval.high) and interval.low > 0.0


def _known(*values: float | None) -> bool:
    """Whether every value is a finite number."""
    return all(value is not None and math.isfinite(value) for value in values)


def _at_least(value: float | None, bound: float) -> bool:
    return value is not None and _known(value, bound) and value >= bound


def _at_most(value: float | None, bound: float) -> bool:
    return value is not None and _known(value, bound) and value <= bound


def _or_lowest(value: float | None) -> float:
    """A value to order by, where an unknown one is the worst."""
    return value if value is not None and math.isfinite(value) else -math.inf


def _missing(*values: float | None) -> str:
    return "" if _known(*values) else "Could not be computed: an unknown value fails."


def _word(metric: str) -> str:
    return _WORDS.get(metric, metric.replace("_", " "))


def _shown(value: float | None) -> float | None:
    """A value as a record may carry it: JSON has no NaN."""
    return value if _known(value) else None


def _check(
    policy: GatePolicy,
    name: str,
    rule: str,
    passed: bool,
    *,
    champion: float | None = None,
    challenger: float | None = None,
    interval: Interval | None = None,
    bound: float | None = None,
    note: str = "",
) -> Check:
    if interval is not None:
        interval = Interval(_shown(interval.low), _shown(interval.high), interval.level)
    return Check(
        name=name,
        rule=rule,
        passed=passed,
        blocking=name not in policy.advisory,
        champion=_shown(champion),
        challenger=_shown(challenger),
        interval=interval,
        bound=_shown(bound),
        note=note,
    )
