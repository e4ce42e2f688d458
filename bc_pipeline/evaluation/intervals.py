"""Confidence intervals of metrics on one set of rows, each by a method that suits few errors.

A percentile bootstrap is too narrow where nearly every call is right: a sample without a missed
row resamples to samples without one. ``bench/interval_coverage.py`` measures the coverage of each
method here. There is none for the calibration error, whose estimate is biased upwards.
"""

from __future__ import annotations

import math

import numpy as np

from bc_pipeline.artifacts.evidence import Confusion, Interval


def wilson_interval(successes: int, trials: int, level: float) -> Interval:
    """Interval of a share (Wilson, 1927); without limits where there are no trials."""
    if trials == 0:
        return Interval(None, None, level)
    z = _normal_quantile(level)
    share, scale = successes / trials, 1.0 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / scale
    return Interval(max(0.0, centre - half), min(1.0, centre + half), level)


def f1_interval(hits: int, errors: int, level: float) -> Interval:
    """Interval of F1, from the Wilson interval of ``hits / (hits + errors)``.

    That share, F*, is binomial among the rows that are of the class or called so, and F1 is
    ``2 F* / (1 + F*)``, which grows with it.

    Parameters
    ----------
    hits : int
        Rows of the class that were called so.
    errors : int
        False alarms and missed rows together.

    References
    ----------
    K. F. Y. Lam, V. Gopal and J. Qian, "Confidence intervals for the F1 score: a comparison of
    four methods", 2023: the indirect Wilson interval.
    """
    share = wilson_interval(hits, hits + errors, level)
    if share.low is None or share.high is None:
        return share
    return Interval(2 * share.low / (1 + share.low), 2 * share.high / (1 + share.high), level)


def auc_interval(auc: float, positives: int, negatives: int, level: float) -> Interval:
    """Interval of the area under the ROC curve; without limits where a class has no rows.

    The limits are the areas that lie just z standard errors of their own from the estimate, so
    that a perfect estimate has a lower limit below 1; an interval by the variance of the
    estimate has none then.

    Parameters
    ----------
    auc : float
        Estimate, from 0 to 1.

    References
    ----------
    R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2: asymptotic methods and evaluation", Statistics in Medicine 25, 2006:
    method 5, with the variance of Hanley and McNeil.
    """
    from scipy.optimize import brentq

    if positives == 0 or negatives == 0 or not math.isfinite(auc):
        return Interval(None, None, level)
    z, pairs, mean_size = (
        _normal_quantile(level),
        positives * negatives,
        (positives + negatives) / 2,
    )

    def excess(area: float) -> float:
        """Distance of an area from the estimate, less z of the area's standard errors."""
        inner = 1 + (mean_size - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return abs(area - auc) - z * math.sqrt(area * (1 - area) * inner / pairs)

    tiny = 1e-12
    low = brentq(excess, tiny, auc - tiny) if auc > 2 * tiny and excess(tiny) > 0 else 0.0
    high = (
        brentq(excess, auc + tiny, 1 - tiny) if auc < 1 - 2 * tiny and excess(1 - tiny) > 0 else 1.0
    )
    return Interval(float(low), float(high), level)


def skewed_mean_interval(values: np.ndarray, level: float) -> Interval:
    """Interval of the mean of skewed values, such as losses that are mostly near zero.

    The t statistic is transformed by a cubic that removes its skewness. Without limits where
    all values are equal: nothing tells then how much they vary.

    References
    ----------
    P. Hall, "On the removal of skewness by transformation", Journal of the Royal Statistical
    Society B 54, 1992.
    """
    count = len(values)
    if count < 2 or np.ptp(values) < 1e-12:
        return Interval(None, None, level)
    mean, deviation = float(values.mean()), float(values.std())
    error = float(values.std(ddof=1)) / math.sqrt(count)
    skewness = float(((values - mean) ** 3).mean()) / deviation**3

    def untransformed(z: float) -> float:
        if abs(skewness) < 1e-6:
            return z
        scaled = 1 + skewness * (z / math.sqrt(count) - skewness / (6 * count))
        return 3 * math.sqrt(count) / skewness * (float(np.cbrt(scaled)) - 1)

    z = _normal_quantile(level)
    return Interval(mean - error * untransformed(z), mean - error * untransformed(-z), level)


def mean_interval(values: np.ndarray, level: float) -> Interval:
    """Student's t interval of a mean; without limits where all values are equal."""
    from scipy.special import stdtrit

    count = len(values)
    if count < 2 or np.ptp(values) < 1e-12:
        return Interval(None, None, level)
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * float(values.std(ddof=1)) / math.sqrt(count)
    mean = float(values.mean())
    return Interval(mean - half, mean + half, level)


def share_intervals(confusion: Confusion, level: float) -> dict[str, Interval]:
    """Intervals of every metric that follows from counts of calls, by name."""
    tp, fp = confusion.true_positive, confusion.false_positive
    tn, fn = confusion.true_negative, confusion.false_negative
    return {
        "accuracy": wilson_interval(tp + tn, tp + tn + fp + fn, level),
        "precision": wilson_interval(tp, tp + fp, level),
        "sensitivity": wilson_interval(tp, tp + fn, level),
        "specificity": wilson_interval(tn, tn + fp, level),
        "f1": f1_interval(tp, fp + fn, level),
        "f1_negative": f1_interval(tn, fp + fn, level),
    }


def share_lower_bound(successes: int, trials: int, level: float = 0.95) -> float | None:
    """One-sided exact lower bound of a share (Clopper and Pearson, 1934).

    None without trials. For 42 of 42 it is .931.
    """
    if trials == 0:
        return None
    if successes == 0:
        return 0.0
    from scipy.special import betaincinv

    return float(betaincinv(successes, trials - successes + 1, 1.0 - level))


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))
