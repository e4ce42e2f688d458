"""Tables and figures of the model card, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.evidence import (
    AnchorComparison,
    CallScore,
    Comparison,
    Evaluation,
    Interval,
    Score,
)
from bc_pipeline.artifacts.importance import Importance
from bc_pipeline.errors import counted
from bc_pipeline.evaluation.metrics import METRICS
from bc_pipeline.problems.base import Problem

_FEATURES_SHOWN = 5
_RATES = ("Sensitivity", "Interval", "Specificity", "Interval")


def results(evaluation: Evaluation) -> str:
    nested, pooled = evaluation.nested, evaluation.cross_validation
    holdout, champion = evaluation.challenger.holdout, evaluation.champion
    columns: list[tuple[str, Score | CallScore | None]] = [
        ("Nested cross-validation", nested),
        ("Cross-validation", pooled),
        ("Holdout", holdout),
    ]
    header = ["Metric", *(word for name, _ in columns for word in (name, "Interval"))]
    if champion is not None:
        header.append("Champion, holdout")
    lines = []
    for metric in METRICS:
        line = [f"`{metric}`"]
        for _, score in columns:
            value = score.metrics.get(metric) if score else None
            interval = score.intervals.get(metric) if score else None
            line += [number(value), _interval(interval)]
        if champion is not None:
            line.append(number(champion.holdout.metrics[metric]))
        lines.append(line)
    treat_all = ["`net_benefit` of calling every row", "-", "-"]
    for score in (pooled, holdout):
        treat_all += [number(score.treat_all), "-"]
    lines.append(treat_all + ["-"] * (champion is not None))
    return _table(header, lines)


def sensitivity_bound(holdout: Score, positive: str) -> str:
    confusion = holdout.confusion
    rows = confusion.true_positive + confusion.false_negative
    if holdout.sensitivity_lower_bound is None:
        return f"The holdout has no {positive} row."
    alarms = counted(confusion.false_positive, "false alarm")
    return (
        f"Called of {counted(rows, f'{positive} holdout row')}: {confusion.true_positive}, with "
        f"{alarms}. On rows like these the sensitivity is "
        f"{holdout.sensitivity_lower_bound:.3f} or more (one-sided 95 %, exact)."
    )


def predictive_values(problem: Problem, evaluation: Evaluation) -> str:
    """Share of calls that are right, at other shares of positive samples than in the data."""
    score = evaluation.nested or evaluation.cross_validation
    sensitivity, specificity = score.metrics["sensitivity"], score.metrics["specificity"]
    if sensitivity is None or specificity is None:
        return "Not defined: a class has no rows."
    rows = []
    for prevalence in problem.study.prevalences:
        hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        missed, passed = prevalence - hits, 1 - prevalence - alarms
        rows.append(
            [
                f"{prevalence:g}",
                share_text(hits, hits + alarms),
                share_text(passed, passed + missed),
            ]
        )
    positive = problem.labels.positive.name
    return (
        f"How often a call is right depends on how many samples are {positive}. With the "
        "sensitivity and specificity of "
        + ("nested cross-validation:" if evaluation.nested else "cross-validation:")
        + "\n\n"
        + _table([f"Share {positive}", "Right of positive calls", "Right of negative calls"], rows)
    )


def calibration(evaluation: Evaluation) -> str:
    rows = []
    for name, score in (
        ("Cross-validation", evaluation.cross_validation),
        ("Holdout", evaluation.challenger.holdout),
    ):
        fit = score.recalibration
        rows.append(
            [name, f"{fit.slope:.3f} ({fit.slope_error:.3f})", f"{fit.intercept:+.3f}"]
            if fit
            else [name, "-", "-"]
        )
    return (
        "Slope 1 and intercept 0 are right; a slope below 1 means probabilities that are too "
        "extreme. Not defined where the probabilities separate the classes.\n\n"
        + _table(["Rows", "Slope (standard error)", "Intercept"], rows)
    )


def slices(evaluation: Evaluation, positive: str) -> str:
    parts = [
        (name, entry)
        for name, score in (
            ("cross-validation", evaluation.cross_validation),
            ("holdout", evaluation.challenger.holdout),
        )
        for entry in score.slices
    ]
    if not parts:
        return "The problem names no slices."
    return _table(
        [*("Slice", "Of", "Rows"), positive.capitalize(), *_RATES],
        [
            [
                entry.name,
                name,
                str(entry.rows),
                str(entry.positive_rows),
                number(entry.sensitivity),
                _interval(entry.sensitivity_interval),
                number(entry.specificity),
                _interval(entry.specificity_interval),
            ]
            for name, entry in parts
        ],
    )


def comparisons(evaluation: Evaluation) -> str:
    """Gains on the holdout without an interval: that of few differing calls covers too little."""
    header = ["Metric", "Champion", "This version", "Gain"]
    lines = _gains(evaluation.holdout_comparisons, "holdout")
    recipes = evaluation.recipe_comparison
    if recipes is None:
        return _table(header, lines)
    name = f"`{recipes.metric}`, recipes in cross-validation"
    lines = [[*line, "-"] for line in lines]
    lines.append([name, *_gain(recipes), _interval(recipes.interval)])
    return _table([*header, "Interval"], lines)


def anchor_comparisons(anchor: AnchorComparison) -> str:
    """Gains since the anchor, or why there are none."""
    if anchor.note:
        return f"Not compared: {anchor.note}"
    return (
        "The anchor is the fixed version that bounds what many releases may lose together. "
        "Cross-validation is that of the two recipes, out of fold, on the "
        f"{counted(anchor.shared_rows, 'train row')} that both were trained on.\n\n"
        + _table(
            ["Metric", "Anchor", "This version", "Gain"],
            [
                *_gains(anchor.holdout, "holdout"),
                *_gains(anchor.cross_validation, "cross-validation"),
            ],
        )
    )


def _gains(entries: Iterable[Comparison], rows: str) -> list[list[str]]:
    return [[f"`{entry.metric}`, {rows}", *_gain(entry)] for entry in entries]


def _gain(entry: Comparison) -> list[str]:
    return [number(value) for value in (entry.champion, entry.challenger, entry.gain)]


def coefficient_table(problem: Problem, model: Coefficients) -> str:
    lines = [
        [f"`{name}`", f"{mean:.6g}", f"{scale:.6g}", f"{weight:+.4f}"]
        for name, mean, scale, weight in zip(
            problem.schema.names, model.mean, model.scale, model.weights, strict=True
        )
    ]
    return (
        f"Log odds of {problem.labels.positive.name} = {model.intercept:+.4f} + sum of weight * "
        "(value - mean) / scale. Features are correlated: a single weight is no effect.\n\n"
        + _table(["Feature", "Mean", "Scale", "Weight"], lines)
    )


def importance_list(importance: Importance) -> str:
    lines = [
        f"`{entry.feature}`: {entry.mean:+.4f} (standard deviation {entry.deviation:.4f})"
        for entry in importance.features[:_FEATURES_SHOWN]
    ]
    return (
        "Rise of the Brier score when one feature is shuffled among the holdout rows. Features "
        "are strongly correlated: a low value means that the others make up for it.\n\n"
        + bullets(lines)
    )


def share_text(part: float, whole: float) -> str:
    return f"{part / whole:.3f}" if whole else "none"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "-"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def with_interval(score: CallScore, metric: str) -> str:
    return f"{number(score.metrics[metric])} ({_interval(score.intervals[metric])})"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
