"""One model on one set of rows: metrics, intervals, calibration and slices.

The positive class is malignant and the call is positive where the probability is above the
threshold. A value that the rows do not define, such as the sensitivity without a malignant
row, is None in records and NaN in arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bc_pipeline.artifacts.evidence import (
    CalibrationBin,
    Confusion,
    Interval,
    Score,
    SliceScore,
    labelled_rows_digest,
)
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.evaluation.bootstrap import percentile_interval, row_weights
from bc_pipeline.evaluation.slices import SliceBounds

METRICS = (
    "accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "f1",
    "f1_benign",
    "roc_auc",
    "brier",
    "calibration_error",
    "net_benefit",
)
"""Every metric of a `Score`, in the order of reports."""
CALIBRATION_BINS = 10


def net_benefit(
    true_positive: np.ndarray, false_positive: np.ndarray, rows: np.ndarray, cost: float
) -> np.ndarray:
    """Net benefit of the model's own calls (Vickers and Elkin, 2006).

    ``TP / n - FP / n * t / (1 - t)``, where the threshold probability `t` says what a false
    alarm costs: with t = 1/11 ten false alarms weigh as much as one malignant case found.
    In a decision curve the call itself is made at t; here it is made at the model's frozen
    threshold, because those are the calls that the service will make, and t only weighs
    them.
    """
    return np.asarray((true_positive - false_positive * (cost / (1.0 - cost))) / rows)


def measure(
    weights: np.ndarray,
    positive: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    decision_threshold_cost: float,
) -> dict[str, np.ndarray]:
    """Every metric on many weighted versions of the same rows at once.

    Parameters
    ----------
    weights : array of float64, shape (rounds, n)
        How often each version has each row; a single row of ones gives the plain metrics.
    positive : array of int, shape (n,)
    probability : array of float64, shape (n,)

    Returns
    -------
    dict of str to array of float64, shape (rounds,)
        Keyed by `METRICS`; NaN where undefined.
    """

    # einsum instead of a BLAS product: its order of summation, and so the last bit, does
    # not depend on the number of threads.
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
        "f1_benign": _share(2 * tn, 2 * tn + fp + fn),
        "roc_auc": _roc_auc(weights, truth, probability),
        "brier": _share(total((probability - truth) ** 2), rows),
        "calibration_error": _calibration_error(weights, truth, probability),
        "net_benefit": net_benefit(tp, fp, rows, decision_threshold_cost),
    }


def score(
    *,
    keys: Sequence[str],
    positive: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    values: np.ndarray,
    slices: Sequence[SliceBounds],
    rounds: int,
    seed: int,
    level: float,
    decision_threshold_cost: float,
) -> Score:
    """Score one model's probabilities on one set of rows.

    Parameters
    ----------
    keys : sequence of str, length n
    positive : array of int, shape (n,)
        1 where the row is malignant.
    probability : array of float64, shape (n,)
        Of malignant.
    threshold : float
        Frozen: it was set on other rows than these.
    values : array of float64, shape (n, n_features)
        Only to tell which slice a row belongs to.
    slices : sequence of SliceBounds
        From `slices.resolve`.
    rounds, seed, level
        Of the bootstrap over rows.
    decision_threshold_cost : float
        Threshold probability that weighs net benefit.

    Raises
    ------
    EvidenceMismatch
        Where keys, labels, probabilities and values do not describe the same rows.
    DegenerateModel
        Where a probability or the threshold is not a number from 0 to 1.
    """
    positive, probability = np.asarray(positive), np.asarray(probability, dtype=np.float64)
    _check_rows(keys, positive, probability, values)
    _check_probability(probability, threshold)
    rows = len(keys)
    plain: dict[str, float | None] = dict.fromkeys(METRICS)
    intervals = {name: Interval(None, None, level) for name in METRICS}
    if rows > 0:
        once = np.ones((1, rows))
        arguments = (positive, probability, threshold, decision_threshold_cost)
        plain = {name: _or_none(found[0]) for name, found in measure(once, *arguments).items()}
        resampled = measure(row_weights(rows, rounds, seed), *arguments)
        intervals = {name: percentile_interval(resampled[name], level) for name in METRICS}
    confusion = _confusion(positive, probability > threshold)
    return Score(
        rows_digest=labelled_rows_digest(keys, positive.tolist()),
        threshold=float(threshold),
        keys=tuple(keys),
        positive=tuple(int(label) for label in positive),
        probability=tuple(float(p) for p in probability),
        confusion=confusion,
        metrics=plain,
        intervals=intervals,
        sensitivity_lower_bound=lower_bound(
            confusion.true_positive, confusion.true_positive + confusion.false_negative
        ),
        calibration=_calibration(positive, probability),
        slices=tuple(
            _slice_score(bounds.name, bounds.contains(values), positive, probability > threshold)
            for bounds in slices
        ),
    )


def lower_bound(successes: int, trials: int, level: float = 0.95) -> float | None:
    """One-sided exact lower bound of a share (Clopper and Pearson, 1934).

    None without trials. 42 of 42 proves no more than .931.
    """
    if trials == 0:
        return None
    if successes == 0:
        return 0.0
    from scipy.special import betaincinv

    return float(betaincinv(successes, trials - successes + 1, 1.0 - level))


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
        raise EvidenceMismatch("A label is neither 1 for malignant nor 0.")


def _check_probability(probability: np.ndarray, threshold: float) -> None:
    # Written so that NaN fails the comparison.
    bad = int((~((probability >= 0.0) & (probability <= 1.0))).sum())
    if bad:
        raise DegenerateModel(
            f"{bad} of {probability.size} probabilities are not a number from 0 to 1."
        )
    if not 0.0 <= threshold <= 1.0:
        raise DegenerateModel(f"The threshold {threshold} is not a number from 0 to 1.")


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def _or_none(value: float) -> float | None:
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


def _bin_of(probability: np.ndarray) -> np.ndarray:
    """Index of the calibration bin; the last one holds probability 1 too."""
    index = np.floor(probability * CALIBRATION_BINS).astype(np.int64)
    return np.asarray(np.minimum(index, CALIBRATION_BINS - 1))


def _calibration_error(
    weights: np.ndarray, truth: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    """Expected calibration error over bins of equal width (Naeini et al., 2015)."""
    member = np.equal.outer(_bin_of(probability), np.arange(CALIBRATION_BINS))
    gap = member * (probability - truth)[:, None]
    per_bin = np.einsum("rn,nb->rb", weights, gap)
    return _share(np.abs(per_bin).sum(axis=1), weights.sum(axis=1))


def _calibration(positive: np.ndarray, probability: np.ndarray) -> tuple[CalibrationBin, ...]:
    index = _bin_of(probability)
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
    truth = positive.astype(bool)
    return Confusion(
        true_positive=int((called & truth).sum()),
        false_positive=int((called & ~truth).sum()),
        true_negative=int((~called & ~truth).sum()),
        false_negative=int((~called & truth).sum()),
    )


def _slice_score(
    name: str, inside: np.ndarray, positive: np.ndarray, called: np.ndarray
) -> SliceScore:
    found = _confusion(positive[inside], called[inside])
    positives = found.true_positive + found.false_negative
    negatives = found.true_negative + found.false_positive
    return SliceScore(
        name=name,
        rows=positives + negatives,
        positive_rows=positives,
        sensitivity=found.true_positive / positives if positives else None,
        specificity=found.true_negative / negatives if negatives else None,
    )
