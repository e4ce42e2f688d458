"""The score of one model on one set of rows: metrics, intervals, calibration and slices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bc_pipeline.artifacts.evidence import (
    CalibrationBin,
    CallScore,
    Confusion,
    Interval,
    Score,
    SliceScore,
    labelled_rows_digest,
)
from bc_pipeline.data.split import SplitSide
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.evaluation.intervals import (
    auc_interval,
    mean_interval,
    share_intervals,
    share_lower_bound,
    skewed_mean_interval,
    wilson_interval,
)
from bc_pipeline.evaluation.metrics import (
    CALIBRATION_BINS,
    METRICS,
    calibration_bin,
    compute_metrics,
    false_alarm_cost,
    finite_or_none,
)
from bc_pipeline.evaluation.recalibration import recalibrate
from bc_pipeline.evaluation.slices import Part
from bc_pipeline.problems.base import Problem


def score_rows(
    problem: Problem,
    rows: SplitSide,
    probability: np.ndarray,
    threshold: float,
    parts: Sequence[Part],
) -> Score:
    """Score one model's probabilities on one set of rows.

    Parameters
    ----------
    problem : Problem
        Its gate policy has the coverage of the intervals.
    rows : SplitSide
        One side of a split; values and metadata decide which parts a row belongs to.
    probability : array of float64, shape (n,)
        Of the positive class.
    threshold : float
        Set on other rows than these.
    parts : sequence of SliceBounds or Subgroup
        From `find_parts`.

    Raises
    ------
    EvidenceMismatch
        Where keys, labels, probabilities and values do not describe the same rows.
    DegenerateModel
        Where a probability or the threshold is not a number from 0 to 1.
    """
    positive, probability = np.asarray(rows.positive), np.asarray(probability, dtype=np.float64)
    _check_rows(rows.keys, positive, probability, rows.values)
    _check_probability(probability, threshold)
    metrics = _metrics(problem, positive, probability, threshold)
    called = probability > threshold
    confusion = _confusion(positive, called)
    return Score(
        rows_digest=labelled_rows_digest(rows.keys, positive.tolist()),
        threshold=float(threshold),
        keys=tuple(rows.keys),
        positive=tuple(positive.tolist()),
        probability=tuple(probability.tolist()),
        confusion=confusion,
        metrics=metrics,
        intervals=_intervals(problem, positive, probability, called, metrics["roc_auc"]),
        sensitivity_lower_bound=share_lower_bound(
            confusion.true_positive, confusion.true_positive + confusion.false_negative
        ),
        calibration=_calibration(positive, probability),
        slices=tuple(
            _slice_score(part, part.contains(rows), positive, called, problem.gate.level)
            for part in parts
        ),
        recalibration=recalibrate(positive, probability),
        treat_all=_treat_all(positive, problem.decision_threshold_cost),
    )


def score_calls(problem: Problem, rows: SplitSide, called: np.ndarray) -> CallScore:
    """Score calls whose thresholds differ from row to row.

    Parameters
    ----------
    problem : Problem
        Its gate policy has the coverage of the intervals.
    called : array of bool, shape (n,)

    Raises
    ------
    EvidenceMismatch
        Where keys, labels and calls do not describe the same rows.
    """
    positive = np.asarray(rows.positive)
    _check_rows(rows.keys, positive, called, rows.values)
    confusion = _confusion(positive, called)
    intervals = share_intervals(confusion, problem.gate.level)
    metrics = _metrics(problem, positive, called.astype(np.float64), 0.5)
    return CallScore(
        rows_digest=labelled_rows_digest(rows.keys, positive.tolist()),
        confusion=confusion,
        metrics={name: metrics[name] for name in intervals},
        intervals=intervals,
    )


def _metrics(
    problem: Problem, positive: np.ndarray, probability: np.ndarray, threshold: float
) -> dict[str, float | None]:
    if not len(positive):
        return dict.fromkeys(METRICS)
    plain = compute_metrics(
        np.ones((1, len(positive))),
        positive,
        probability,
        threshold,
        problem.decision_threshold_cost,
    )
    return {name: finite_or_none(values[0]) for name, values in plain.items()}


def _intervals(
    problem: Problem,
    positive: np.ndarray,
    probability: np.ndarray,
    called: np.ndarray,
    roc_auc: float | None,
) -> dict[str, Interval]:
    """Interval of every metric but the calibration error, by the methods of `intervals`."""
    level, positives = problem.gate.level, int(positive.sum())
    cost = false_alarm_cost(problem.decision_threshold_cost)
    auc = math.nan if roc_auc is None else roc_auc
    return share_intervals(_confusion(positive, called), level) | {
        "roc_auc": auc_interval(auc, positives, len(positive) - positives, level),
        "brier": skewed_mean_interval((probability - positive) ** 2, level),
        "net_benefit": mean_interval(called * np.where(positive == 1, 1.0, -cost), level),
    }


def _check_rows(
    keys: Sequence[str], positive: np.ndarray, probability: np.ndarray, values: np.ndarray
) -> None:
    lengths = {len(keys), *positive.shape, *probability.shape, values.shape[0]}
    if len(lengths) != 1 or positive.ndim != 1 or probability.ndim != 1:
        raise EvidenceMismatch(
            f"{len(keys)} keys, {positive.shape} labels, {probability.shape} probabilities and "
            f"{values.shape} values do not describe the same rows."
        )
    if len(set(keys)) != len(keys):
        raise EvidenceMismatch("A row is scored twice.")
    if not np.isin(positive, (0, 1)).all():
        raise EvidenceMismatch("A label is neither 1 for the positive class nor 0.")


def _check_probability(probability: np.ndarray, threshold: float) -> None:
    # Negated, so that NaN counts as bad.
    bad = int((~((probability >= 0.0) & (probability <= 1.0))).sum())
    if bad:
        raise DegenerateModel(
            f"{bad} of {probability.size} probabilities are not a number from 0 to 1."
        )
    if not 0.0 <= threshold <= 1.0:
        raise DegenerateModel(f"The threshold {threshold} is not a number from 0 to 1.")


def _treat_all(positive: np.ndarray, decision_threshold_cost: float) -> float | None:
    """Net benefit of calling every row positive."""
    if not len(positive):
        return None
    share = float(positive.mean())
    return share - (1.0 - share) * false_alarm_cost(decision_threshold_cost)


def _calibration(positive: np.ndarray, probability: np.ndarray) -> tuple[CalibrationBin, ...]:
    index = calibration_bin(probability)
    bins = []
    for number in range(CALIBRATION_BINS):
        inside = index == number
        rows = int(inside.sum())
        bins.append(
            CalibrationBin(
                low=number / CALIBRATION_BINS,
                high=(number + 1) / CALIBRATION_BINS,
                rows=rows,
                mean_probability=float(probability[inside].mean()) if rows else None,
                observed_share=float(positive[inside].mean()) if rows else None,
            )
        )
    return tuple(bins)


def _confusion(positive: np.ndarray, called: np.ndarray) -> Confusion:
    # Rows of kind 0 to 3: 2 for a positive one, and 1 more for one that is called so.
    kinds = 2 * positive.astype(np.int64) + called
    tn, fp, fn, tp = np.bincount(kinds, minlength=4).tolist()
    return Confusion(true_positive=tp, false_positive=fp, true_negative=tn, false_negative=fn)


def _slice_score(
    part: Part, inside: np.ndarray, positive: np.ndarray, called: np.ndarray, level: float
) -> SliceScore:
    confusion = _confusion(positive[inside], called[inside])
    positives = confusion.true_positive + confusion.false_negative
    negatives = confusion.true_negative + confusion.false_positive
    return SliceScore(
        name=part.name,
        metadata=part.metadata,
        rows=positives + negatives,
        positive_rows=positives,
        sensitivity=confusion.true_positive / positives if positives else None,
        specificity=confusion.true_negative / negatives if negatives else None,
        sensitivity_interval=wilson_interval(confusion.true_positive, positives, level),
        specificity_interval=wilson_interval(confusion.true_negative, negatives, level),
    )
