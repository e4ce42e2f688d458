"""Checks of the challenger's performance, by itself and compared with the champion's.

Each check is one function, one rule in words and one line of a verdict. A number that is
missing or not finite fails every check that uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from bc_pipeline.artifacts.evidence import (
    CallScore,
    Comparison,
    Confusion,
    Evaluation,
    Score,
    Side,
    SliceScore,
)
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.clock import parse_time
from bc_pipeline.errors import ConfigError, counted
from bc_pipeline.evaluation.intervals import share_lower_bound
from bc_pipeline.labels import Labels
from bc_pipeline.problems.policies import Floor, GatePolicy, Margin, Rows
from bc_pipeline.promotion.check import at_least, at_most, is_known, missing_note

_ROWS_TEXT: dict[Rows, str] = {
    "holdout": "on the holdout",
    "cross_validation": "in cross-validation",
    "nested": "in nested cross-validation",
}
_METRIC_TEXT = {
    "f1": "F1",
    "f1_negative": "F1 of the negative class",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
}

_CALLS: dict[str, Callable[[Confusion], tuple[int, int]]] = {
    "sensitivity": lambda counts: (
        counts.true_positive,
        counts.true_positive + counts.false_negative,
    ),
    "specificity": lambda counts: (
        counts.true_negative,
        counts.true_negative + counts.false_positive,
    ),
}
"""Right calls and rows of the metrics that a lower bound is computed for."""
_MOST_ROWS = 5000


def already_live() -> Check:
    """The only check where the challenger is the champion."""
    return Check(
        name="already_live",
        rule="the challenger is the version in production",
        passed=True,
        note="The same inputs gave the same version; promoting it changes nothing.",
    )


def floor(required: Floor, evaluation: Evaluation) -> Check:
    """An absolute bound, which the first model must meet too."""
    score = _scored(required, evaluation)
    value = score.metrics.get(required.metric) if score else None
    direction, passes = (
        ("at least", at_least) if required.direction == "at_least" else ("at most", at_most)
    )
    return Check(
        f"{required.rows}_{required.metric}",
        f"{metric_text(required.metric)} {_ROWS_TEXT[required.rows]} {direction} "
        f"{required.bound:g}",
        passes(value, required.bound),
        challenger=value,
        interval=score.intervals.get(required.metric) if score else None,
        bound=required.bound,
        note=missing_note(value),
    )


def proven(required: Floor, bound: float, labels: Labels, evaluation: Evaluation) -> Check:
    """The lower bound of a share, so that few rows without an error do not count as evidence."""
    score = _scored(required, evaluation)
    hits, trials = _CALLS[required.metric](score.confusion) if score else (0, 0)
    rows = labels.name(required.metric == "sensitivity")
    lower = share_lower_bound(hits, trials)
    passed = at_least(lower, bound)
    note = f"{hits} of {counted(trials, f'{rows} row')}." if trials else missing_note(None)
    if trials and not passed:
        more = _rows_needed(hits / trials, trials, bound)
        note += (
            f" Not enough rows: at this share {more} more {rows} ones are needed."
            if more
            else " The share itself is too low: more rows would not help."
        )
    return Check(
        f"{required.rows}_{required.metric}_proven",
        f"one-sided 95 % lower bound of {metric_text(required.metric)} "
        f"{_ROWS_TEXT[required.rows]} at least {bound:g}",
        passed,
        challenger=lower,
        bound=bound,
        note=note,
    )


def _scored(required: Floor, evaluation: Evaluation) -> Score | CallScore | None:
    """The score of the rows that a floor names; an older evaluation lacks the nested one."""
    if required.rows == "nested":
        return evaluation.nested
    if required.rows == "cross_validation":
        return evaluation.cross_validation
    return evaluation.challenger.holdout


def _rows_needed(share: float, trials: int, bound: float) -> int | None:
    """Number of further rows with which the same share reaches a lower bound; None if never."""
    return next(
        (
            more
            for more in range(1, _MOST_ROWS - trials)
            if at_least(
                share_lower_bound(math.floor(share * (trials + more)), trials + more), bound
            )
        ),
        None,
    )


def worst_slice(policy: GatePolicy, labels: Labels, score: Score, rows: Rows) -> Check:
    """Sensitivity of the worst slice that has enough positive rows to be judged."""
    slices = [part for part in score.slices if not part.metadata]
    return _worst_part(policy, labels, slices, rows, "slice")


def worst_subgroup(policy: GatePolicy, labels: Labels, score: Score, rows: Rows) -> Check:
    """Sensitivity of the worst subgroup by metadata that has enough positive rows to be judged.

    There may be many subgroups, so they need more rows than slices: at a sensitivity of .95, one of
    20 positive rows is below .75 by chance with a probability of .0003.
    """
    subgroups = [part for part in score.slices if part.metadata]
    return _worst_part(policy, labels, subgroups, rows, "subgroup")


def _worst_part(
    policy: GatePolicy,
    labels: Labels,
    parts: Sequence[SliceScore],
    rows: Rows,
    kind: Literal["slice", "subgroup"],
) -> Check:
    minimum = policy.slice_minimum_rows if kind == "slice" else policy.subgroup_minimum_rows
    row = f"{labels.positive.name} row"
    judged = [part for part in parts if part.positive_rows >= minimum]
    name = f"{rows}_worst_{kind}"
    rule = (
        f"sensitivity {_ROWS_TEXT[rows]} at least {policy.slice_sensitivity:g} in every {kind} "
        f"of {minimum} {row}s or more"
    )
    note = "".join(
        f" Not judged: {part.name}, {counted(part.positive_rows, row)}."
        for part in parts
        if part.positive_rows < minimum
    )
    if not judged:
        note = note.strip() or f"There are no {kind}s."
        return Check(name, rule, True, bound=policy.slice_sensitivity, note=note)
    worst = min(judged, key=lambda part: _sort_value(part.sensitivity))
    return Check(
        name,
        rule,
        at_least(worst.sensitivity, policy.slice_sensitivity),
        challenger=worst.sensitivity,
        bound=policy.slice_sensitivity,
        interval=worst.sensitivity_interval,
        note=f"Worst: {worst.name}, {counted(worst.positive_rows, row)}.{note}",
    )


def f1_tie(policy: GatePolicy, champion: Side, challenger: Side) -> Check:
    """F1 of the challenger against the champion's on the same rows, with a tolerance."""
    old, new = champion.holdout.metrics.get("f1"), challenger.holdout.metrics.get("f1")
    bound = old - policy.f1_tie if old is not None and is_known(old) else None
    return Check(
        "f1_tie",
        f"F1 on the holdout no lower than the champion's, within {policy.f1_tie:g}",
        bound is not None and at_least(new, bound),
        champion=old,
        challenger=new,
        bound=bound,
        note=missing_note(old, new),
    )


def no_harm(policy: GatePolicy, margin: Margin, comparisons: tuple[Comparison, ...]) -> Check:
    """Non-inferiority on the holdout: not much worse, and not surely worse."""
    word = metric_text(margin.metric)
    rule = (
        f"{word} on the holdout at most {margin.margin:g} worse than the champion's, and a gain of "
        f"{0.0 - margin.negligible:g} or more in at least {(1 - policy.level) / 2:.1%} of resamples"
    )
    name = f"no_harm_{margin.metric}"
    measured = [each for each in comparisons if each.metric == margin.metric]
    if not measured:
        note = f"Not measured: evaluate again, comparing {word}."
        return Check(name, rule, False, bound=margin.margin, note=note)
    comparison = measured[0]
    gain, interval = comparison.gain, comparison.interval
    high = interval.high if interval is not None else None
    low = interval.low if interval is not None else None
    known = is_known(comparison.champion, comparison.challenger, low)
    return Check(
        name,
        rule,
        known and at_least(gain, -margin.margin) and at_least(high, -margin.negligible),
        champion=comparison.champion,
        challenger=comparison.challenger,
        bound=margin.margin,
        # The range of resamples is no confidence interval: models that differ in a few calls
        # have one that is too narrow.
        note=missing_note(comparison.champion, comparison.challenger, gain, low, high)
        or f"Gain {gain:+.4f}; over resamples {low:+.4f} to {high:+.4f}.",
    )


def same_schema(champion: Side, challenger: Side) -> Check:
    """The service's input must stay the same for its callers."""
    return Check(
        "same_schema",
        "the same features, units and ranges as the champion",
        champion.schema_fingerprint == challenger.schema_fingerprint,
    )


def data_age(champion: Side, challenger: Side) -> Check:
    """A model of older data must not replace one of newer data by mistake."""
    try:
        passed = parse_time(challenger.as_of) >= parse_time(champion.as_of)
    except ConfigError:
        passed = False
    return Check(
        "data_age",
        "data no older than the champion's",
        passed,
        note=f"Champion: as of {champion.as_of}; challenger: as of {challenger.as_of}.",
    )


def _sort_value(value: float | None) -> float:
    """A sort key: an unknown value is the worst."""
    return value if value is not None and math.isfinite(value) else -math.inf


def rows_text(rows: Rows) -> str:
    return _ROWS_TEXT[rows]


def metric_text(metric: str) -> str:
    return _METRIC_TEXT.get(metric, metric.replace("_", " "))
