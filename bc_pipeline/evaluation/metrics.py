"""Metrics of one model on one set of rows, for many weightings of the rows at once.

The call is positive where the probability is above the threshold. A value that the rows do not
define, such as the sensitivity without a positive row, is None in documents and NaN in arrays.
"""

from __future__ import annotations

import math

import numpy as np

METRICS = (
    "accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "f1",
    "f1_negative",
    "roc_auc",
    "brier",
    "calibration_error",
    "net_benefit",
)
"""Every metric of a `Score`, in the order of reports."""
CALIBRATION_BINS = 10


def compute_metrics(
    weights: np.ndarray,
    positive: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    decision_threshold_cost: float,
) -> dict[str, np.ndarray]:
    """Every metric, for many weightings of the same rows at once.

    Parameters
    ----------
    weights : array of float64, shape (rounds, n)
        Weight of each row in each resample; a single line of ones gives the plain metrics.
    positive : array of int, shape (n,)
    probability : array of float64, shape (n,)
    decision_threshold_cost : float
        Threshold probability of net benefit: with 1/11 ten false alarms weigh as much as one
        missed positive row.

    Returns
    -------
    dict of str to array of float64, shape (rounds,)
        Keyed by `METRICS`; NaN where undefined.
    """

    # einsum instead of a BLAS product: its order of summation, and so the last bit of the
    # result, does not depend on the number of threads.
    def total(per_row: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("rn,n->r", weights, per_row.astype(np.float64)))

    truth = positive.astype(bool)
    called = probability > threshold
    tp, fp = total(called & truth), total(called & ~truth)
    fn, tn = total(~called & truth), total(~called & ~truth)
    rows = tp + fp + fn + tn
    return {
        "accuracy": _share(tp + tn, rows),
        "precision": _share(tp, tp + fp),
        "sensitivity": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "f1_negative": _share(2 * tn, 2 * tn + fp + fn),
        "roc_auc": _roc_auc(weights, truth, probability),
        "brier": _share(total((probability - truth) ** 2), rows),
        "calibration_error": _calibration_error(weights, truth, probability),
        # Vickers and Elkin, 2006. In a decision curve the call itself is made at the threshold
        # probability; here that only weighs the calls, which are made at the model's own threshold.
        "net_benefit": np.asarray((tp - fp * false_alarm_cost(decision_threshold_cost)) / rows),
    }


def false_alarm_cost(decision_threshold_cost: float) -> float:
    """Share of a missed positive row that a false alarm costs."""
    return decision_threshold_cost / (1.0 - decision_threshold_cost)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _roc_auc(weights: np.ndarray, truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Share of (positive, negative) pairs in the right order; a tie counts half."""
    order = np.argsort(probability, kind="stable")
    ranked = weights[:, order]
    starts = np.flatnonzero(np.diff(probability[order], prepend=-np.inf))
    positives = np.add.reduceat(np.where(truth[order], ranked, 0.0), starts, axis=1)
    negatives = np.add.reduceat(np.where(truth[order], 0.0, ranked), starts, axis=1)
    below = np.cumsum(negatives, axis=1) - 0.5 * negatives
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _share((positives * below).sum(axis=1), pairs)


def calibration_bin(probability: np.ndarray) -> np.ndarray:
    """Index of the calibration bin; the last one holds probability 1 too."""
    index = np.floor(probability * CALIBRATION_BINS).astype(np.int64)
    return np.asarray(np.minimum(index, CALIBRATION_BINS - 1))


def _calibration_error(
    weights: np.ndarray, truth: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    """Expected calibration error over bins of equal width (Naeini et al., 2015)."""
    member = np.equal.outer(calibration_bin(probability), np.arange(CALIBRATION_BINS))
    gap = member * (probability - truth)[:, None]
    per_bin = np.einsum("rn,nb->rb", weights, gap)
    return _share(np.abs(per_bin).sum(axis=1), weights.sum(axis=1))
