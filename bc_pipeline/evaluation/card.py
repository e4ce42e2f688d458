"""The model card: what a person should know before using a version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bc_pipeline.artifacts.evidence import Comparison, Evaluation, Interval, Score
from bc_pipeline.artifacts.manifest import DagCode, Manifest
from bc_pipeline.evaluation.importance import Importance
from bc_pipeline.evaluation.metrics import METRICS
from bc_pipeline.problems.base import Problem

_FEATURES_SHOWN = 5
_INTENDED_USE = (
    "Decision support for research, and showing how a machine learning workflow is run. **It is "
    "not a medical device**: it must not diagnose, triage or treat a patient, and a person who "
    "is qualified to do so must stand behind every decision."
)
_OUTSIDE_USE = (
    "It knows only samples that were measured like those it was trained on. Inputs in other "
    "units, from another instrument or of another population are outside its use."
)


def model_card(
    problem: Problem, manifest: Manifest, evaluation: Evaluation, importance: Importance
) -> str:
    """Markdown that describes the challenger of an evaluation, whose manifest is given.

    It tells what was measured, not what was decided: the verdict stands in its own file
    beside the card, and may be written anew when the policy changes.
    """
    challenger, champion = evaluation.challenger, evaluation.champion
    sections = [
        f"# {problem.title}: {challenger.title}",
        f"Version `{challenger.version}`, one of the models of problem `{problem.name}`.",
        "## What it is",
        _what(problem, evaluation),
        "## Intended use",
        _INTENDED_USE,
        _OUTSIDE_USE,
        "## Data",
        _data(problem, evaluation),
        "## Recipe",
        _bullets(_recipe(problem, manifest)),
        "## Results",
        _reading(problem),
        _results(evaluation),
        _proof(challenger.holdout, problem.labels.positive.name),
        "## Slices of the holdout",
        _slices(challenger.holdout, problem.labels.positive.name),
    ]
    if champion is not None:
        sections += [
            f"## Against the champion `{champion.version}` ({champion.title})",
            "The same holdout rows; a positive gain means that this version is better.",
            _comparisons(evaluation),
        ]
    sections += ["## What it leans on", _leans_on(importance), "## Limits", _limits(evaluation)]
    return "\n\n".join(sections) + "\n"


def _what(problem: Problem, evaluation: Evaluation) -> str:
    positive, negative = problem.labels.positive.name, problem.labels.negative.name
    return (
        f"A binary classifier over {len(problem.schema.features)} numeric features. It gives the "
        f"probability that a sample is {positive} and calls it {positive} where the probability "
        f"is above {evaluation.challenger.holdout.threshold:.6g}, otherwise {negative}."
    )


def _data(problem: Problem, evaluation: Evaluation) -> str:
    challenger, pooled = evaluation.challenger, evaluation.cross_validation
    positive, digest = problem.labels.positive.name, challenger.holdout.rows_digest[:12]
    train, holdout = _rows(pooled, positive), _rows(challenger.holdout, positive)
    return _bullets(
        [
            f"Dataset `{challenger.dataset}`: rows that had arrived by {challenger.as_of}.",
            f"Train: {train}. They chose the recipe and the threshold.",
            f"Holdout: {holdout}. They had no part in any choice; rows digest `{digest}`.",
        ]
    )


def _reading(problem: Problem) -> str:
    """How to read the table of results."""
    policy, cost = problem.gate, problem.decision_threshold_cost
    return (
        f"Positive class {problem.labels.positive.name}, except in `f1_benign`. Intervals: "
        f"{policy.level:.0%}, percentile bootstrap over rows, {policy.bootstrap_rounds} resamples. "
        f"Net benefit weighs the calls at t = {cost:.4g}: one missed case costs as much as "
        f"{(1 - cost) / cost:.3g} false alarms."
    )


def _limits(evaluation: Evaluation) -> str:
    pooled, rows = evaluation.cross_validation, len(evaluation.challenger.holdout.keys)
    share = _share(sum(pooled.positive), len(pooled.positive))
    return _bullets(
        [
            f"{rows} holdout rows: the intervals above say how much that can prove.",
            "No row tells age, origin or clinic: fairness between groups could not be looked at.",
            f"Probabilities fit the share of positive rows in training ({share}), not any other.",
        ]
    )


def _recipe(problem: Problem, manifest: Manifest) -> list[str]:
    recipe = manifest.recipe
    params = ", ".join(f"{name} = {value}" for name, value in recipe.params.items())
    target = problem.selection.sensitivity_target
    return [
        f"{recipe.title}, recipe `{recipe.recipe}`.",
        f"Code `{manifest.lineage.code_version}`{_dag(manifest.lineage.dag)}.",
        f"Parameters: {params}; seed {recipe.seed}.",
        f"Threshold {manifest.threshold:.6g}, for a sensitivity of {target:g} out of fold.",
    ]


def _dag(dag: DagCode | None) -> str:
    if dag is None:
        return ""
    version = f" at `{dag.bundle_version}`" if dag.bundle_version else ""
    return f", DAG `{dag.dag_id}` of bundle `{dag.bundle}`{version}, sources `{dag.sha256[:12]}`"


def _results(evaluation: Evaluation) -> str:
    pooled, holdout = evaluation.cross_validation, evaluation.challenger.holdout
    header = ["Metric", "Cross-validation", "Interval", "Holdout", "Interval"]
    if evaluation.champion is not None:
        header.append("Champion, holdout")
    lines = []
    for metric in METRICS:
        line = [f"`{metric}`"]
        for score in (pooled, holdout):
            line += [_number(score.metrics[metric]), _interval(score.intervals[metric])]
        if evaluation.champion is not None:
            line.append(_number(evaluation.champion.holdout.metrics[metric]))
        lines.append(line)
    return _table(header, lines)


def _proof(holdout: Score, positive: str) -> str:
    found = holdout.confusion
    rows = found.true_positive + found.false_negative
    if holdout.sensitivity_lower_bound is None:
        return f"The holdout has no {positive} row."
    return (
        f"{found.true_positive} of {rows} {positive} holdout rows were called, "
        f"{found.false_positive} false alarms. That proves a sensitivity of no less than "
        f"{holdout.sensitivity_lower_bound:.3f} (one-sided 95 %, exact)."
    )


def _slices(holdout: Score, positive: str) -> str:
    if not holdout.slices:
        return "The problem names no slices."
    return _table(
        ["Slice", "Rows", positive.capitalize(), "Sensitivity", "Specificity"],
        [
            [
                part.name,
                str(part.rows),
                str(part.positive_rows),
                _number(part.sensitivity),
                _number(part.specificity),
            ]
            for part in holdout.slices
        ],
    )


def _comparisons(evaluation: Evaluation) -> str:
    recipes = evaluation.recipe_comparison
    rows = [(f"`{entry.metric}`, holdout", entry) for entry in evaluation.holdout_comparisons]
    if recipes is not None:
        rows.append((f"`{recipes.metric}`, recipes in cross-validation", recipes))

    def line(name: str, entry: Comparison) -> list[str]:
        interval = _interval(entry.interval) if entry.interval is not None else "-"
        numbers = [_number(value) for value in (entry.champion, entry.challenger, entry.gain)]
        return [name, *numbers, interval]

    return _table(
        ["Metric", "Champion", "This version", "Gain", "Interval"],
        [line(name, entry) for name, entry in rows],
    )


def _leans_on(importance: Importance) -> str:
    lines = [
        f"`{entry.feature}`: {entry.mean:+.4f} (standard deviation {entry.deviation:.4f})"
        for entry in importance.features[:_FEATURES_SHOWN]
    ]
    return (
        "Rise of the Brier score when one feature is shuffled among the holdout rows. Features "
        "are strongly correlated: a low value means that the others make up for it.\n\n"
        + _bullets(lines)
    )


def _rows(score: Score, positive: str) -> str:
    return f"{len(score.keys)} rows, {sum(score.positive)} of them {positive}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "none"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "-"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
