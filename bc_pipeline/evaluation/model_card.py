"""The model card: a description of a version for people who may use it."""

from __future__ import annotations

from collections.abc import Iterator

from bc_pipeline.artifacts.coefficients import Coefficients
from bc_pipeline.artifacts.evidence import Evaluation, Score
from bc_pipeline.artifacts.importance import Importance
from bc_pipeline.artifacts.manifest import DagCode, Manifest
from bc_pipeline.errors import counted
from bc_pipeline.evaluation.card_tables import (
    anchor_comparisons,
    bullets,
    calibration,
    coefficient_table,
    comparisons,
    importance_list,
    number,
    predictive_values,
    results,
    sensitivity_bound,
    share_text,
    slices,
    with_interval,
)
from bc_pipeline.evaluation.intervals import share_lower_bound
from bc_pipeline.problems.base import Problem

_INTENDED_USE = (
    "Decision support for research, and showing how a machine learning workflow is run. **It is "
    "not a medical device**: it must not diagnose, triage or treat a patient, and a person who "
    "is qualified to do so must take every decision."
)
_OUTSIDE_USE = (
    "It knows only samples that were measured like those it was trained on. Inputs in other "
    "units, from another instrument or of another population are outside its use."
)

_POOR_INPUTS = (
    "A sample with a missing, non-numeric or physically impossible value is refused, by name of "
    "the feature; nothing is imputed. A value outside the range of the training rows is answered "
    "with a warning. Ambiguous samples are not distinguished from clear ones."
)

_TRAIN_USE = (
    "They chose recipe and threshold, and the gate's floors in cross-validation use them too."
)
_HOLDOUT_USE = "They chose neither recipe nor threshold; every challenger is judged on them again."
_EXTERNAL_CHECK = (
    "No external check is part of this evaluation: `bench/external.py` measures a version on "
    "labelled rows of another source."
)


def model_card(
    problem: Problem,
    manifest: Manifest,
    evaluation: Evaluation,
    importance: Importance,
    coefficients: Coefficients | None = None,
) -> str:
    """Markdown that describes the challenger of an evaluation, whose manifest is given.

    The card has measurements, not the decision: the verdict has its own file.

    Parameters
    ----------
    coefficients : Coefficients, optional
        Where the model is a logistic regression.
    """
    challenger, positive = evaluation.challenger, problem.labels.positive.name
    sections = [
        f"# {problem.title}: {challenger.title}",
        f"Version `{challenger.version}`, one of the models of problem `{problem.name}`.",
        _headline(problem, evaluation),
        "## What it is",
        _description(problem, evaluation),
        "## Intended use",
        _INTENDED_USE,
        _OUTSIDE_USE,
        "## Study",
        _study(problem),
        "## Data",
        _data(problem, evaluation),
        "## Recipe",
        bullets(_recipe(problem, manifest)),
        "## Results",
        _results_legend(problem),
        results(evaluation),
        sensitivity_bound(challenger.holdout, positive),
        "## Predictive values",
        predictive_values(problem, evaluation),
        "## Calibration",
        calibration(evaluation),
        "## Slices",
        slices(evaluation, positive),
    ]
    sections += [*_compared(evaluation), "## Feature importance", importance_list(importance)]
    if coefficients is not None:
        sections += ["## Coefficients", coefficient_table(problem, coefficients)]
    sections += ["## Poor inputs", _POOR_INPUTS, "## Limits", _limits(problem, evaluation)]
    return "\n\n".join(sections) + "\n"


def _headline(problem: Problem, evaluation: Evaluation) -> str:
    """Expected figures on new rows: nested cross-validation, which no choice has used."""
    nested, pooled = evaluation.nested, evaluation.cross_validation
    if nested is None:
        return "This evaluation has no nested cross-validation."
    return (
        "**To be expected on new rows of the same kind**, by nested cross-validation on "
        f"{len(pooled.keys)} train rows: sensitivity {with_interval(nested, 'sensitivity')}, "
        f"specificity {with_interval(nested, 'specificity')}, F1 {with_interval(nested, 'f1')}. "
        "Neither the model nor the threshold of a call saw the row."
    )


def _description(problem: Problem, evaluation: Evaluation) -> str:
    positive, negative = problem.labels.positive.name, problem.labels.negative.name
    return (
        f"A binary classifier over {len(problem.schema.features)} numeric features. It gives the "
        f"probability that a sample is {positive} and calls it {positive} where the probability "
        f"is above {evaluation.challenger.holdout.threshold:.6g}, otherwise {negative}."
    )


def _study(problem: Problem) -> str:
    study = problem.study
    return bullets(
        [
            f"Setting: {study.setting}",
            f"Dates: {study.dates}",
            f"Eligibility: {study.eligibility}",
            f"Reference standard: {study.reference_standard}",
        ]
    )


def _data(problem: Problem, evaluation: Evaluation) -> str:
    challenger, pooled = evaluation.challenger, evaluation.cross_validation
    positive, digest = problem.labels.positive.name, challenger.holdout.rows_digest[:12]
    train, holdout = _rows(pooled, positive), _rows(challenger.holdout, positive)
    features, cases = len(problem.schema.features), sum(pooled.positive)
    held = sum(challenger.holdout.positive)
    size = (
        f"{cases} {positive} train rows for {features} features are {cases / features:.1f} per "
        f"feature; {counted(held, f'{positive} holdout row')}, none missed, would show a "
        f"sensitivity of {number(share_lower_bound(held, held))}."
    )
    return bullets(
        [
            f"Dataset `{challenger.dataset}`: rows that had arrived by {challenger.as_of}.",
            f"Train: {train}. {_TRAIN_USE}",
            f"Holdout: {holdout}. {_HOLDOUT_USE} Rows digest `{digest}`.",
            f"Sample size: the rows there were, not a planned number. {size}",
        ]
    )


def _results_legend(problem: Problem) -> str:
    """Explanation of the table of results."""
    policy, cost = problem.gate, problem.decision_threshold_cost
    return (
        f"Positive class {problem.labels.positive.name}, except in `f1_negative`. "
        f"{policy.level:.0%} intervals over rows: Wilson for shares and, by the share of hits, for "
        "F1; Newcombe's method 5 for the area under the ROC curve; Hall's transformed t for the "
        "Brier score; Student's t for net benefit; none for the calibration error, which few rows "
        "bias upwards. The calls of cross-validation are made at the threshold that the same rows "
        "set: nested cross-validation is the fair figure. "
        f"Net benefit weighs the calls at t = {cost:.4g}: one missed case costs as much as "
        f"{(1 - cost) / cost:.3g} false alarms; calling every row is the figure to beat."
    )


def _compared(evaluation: Evaluation) -> Iterator[str]:
    champion, anchor = evaluation.champion, evaluation.anchor
    if champion is not None:
        yield f"## Against the champion `{champion.version}` ({champion.title})"
        yield "The same holdout rows; a positive gain means that this version is better."
        yield comparisons(evaluation)
    if anchor is not None:
        yield f"## Against the anchor `{anchor.version}`"
        yield anchor_comparisons(anchor)


def _limits(problem: Problem, evaluation: Evaluation) -> str:
    pooled, holdout = evaluation.cross_validation, evaluation.challenger.holdout
    share = share_text(sum(pooled.positive), len(pooled.positive))
    lines = [f"{len(holdout.keys)} holdout rows: the intervals above say what that can show."]
    here, usual = holdout.metrics["brier"], pooled.metrics["brier"]
    if here is not None and usual is not None and here < usual / 2:
        lines.append(
            f"This holdout is an easy one: Brier score {number(here)}, in cross-validation "
            f"{number(usual)}. Expect the figures of cross-validation."
        )
    return bullets(
        [
            *lines,
            *problem.study.limits,
            f"Probabilities fit the share of positive rows in training ({share}), not any other.",
            _EXTERNAL_CHECK,
        ]
    )


def _recipe(problem: Problem, manifest: Manifest) -> list[str]:
    recipe = manifest.recipe
    params = ", ".join(f"{name} = {value}" for name, value in recipe.params.items())
    target = problem.selection.sensitivity_target
    return [
        f"{recipe.title}, recipe `{recipe.recipe}`{_origin(manifest)}.",
        f"Code `{manifest.lineage.code_version}`{_dag(manifest.lineage.dag)}.",
        f"Parameters: {params}; seed {recipe.seed}.",
        f"Threshold {manifest.threshold:.6g}, for a sensitivity of {target:g} on new rows.",
    ]


def _origin(manifest: Manifest) -> str:
    return ", the champion's, fitted again" if manifest.lineage.refit else ""


def _dag(dag: DagCode | None) -> str:
    if dag is None:
        return ""
    version = f" at `{dag.bundle_version}`" if dag.bundle_version else ""
    return f", DAG `{dag.dag_id}` of bundle `{dag.bundle}`{version}, sources `{dag.sha256[:12]}`"


def _rows(score: Score, positive: str) -> str:
    return f"{counted(len(score.keys), 'row')}, {sum(score.positive)} of them {positive}"
