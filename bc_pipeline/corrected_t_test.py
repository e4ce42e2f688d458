"""The corrected resampled t-test, with which recipes are compared in cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class TTest:
    """Result of a corrected resampled t-test of a mean difference.

    Attributes
    ----------
    mean : float
        Mean difference.
    low, high : float
        Two-sided confidence interval of the mean.
    p_value : float
        One-sided, against the null hypothesis that the true mean is not above zero; .5 where
        all differences are zero.
    error : float
        Standard error of the mean.
    """

    mean: float
    low: float
    high: float
    p_value: float
    error: float

    @property
    def two_sided(self) -> float:
        """P value against the null hypothesis that the true mean is zero."""
        return 2.0 * min(self.p_value, 1.0 - self.p_value)


def corrected_resampled_t(differences: np.ndarray, test_share: float, level: float = 0.95) -> TTest:
    """Corrected resampled t-test over the folds of repeated cross-validation.

    Losses of different folds are not independent, because their train rows overlap, so the
    plain t-test rejects too often. The variance of the mean of J
    differences is therefore estimated as ``(1 / J + n_test / n_train) * s^2``, with J - 1
    degrees of freedom.

    Parameters
    ----------
    differences : array of float, shape (repeats, folds)
        Per-fold differences between two recipes on identical folds.
    test_share : float
        Share of the rows that a fold tests on: ``1 / folds``.
    level : float
        Coverage of the interval.

    Returns
    -------
    TTest
        All fields are NaN where a difference is not finite, so that every comparison with the
        p value is false.

    Raises
    ------
    ValueError
        Where there are fewer than two differences, or `test_share` or `level` does not lie
        between 0 and 1.

    References
    ----------
    C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 52,
    2003: the correction. R. R. Bouckaert and E. Frank, "Evaluating the replicability of
    significance tests for comparing learning algorithms", PAKDD 2004: its use over the
    repeats x folds differences of repeated cross-validation.
    """
    from scipy.special import stdtr, stdtrit

    flat = np.asarray(differences, dtype=np.float64).ravel()
    if flat.size < 2:
        raise ValueError(f"a t-test needs two differences or more, not {flat.size}")
    for name, value in (("test_share", test_share), ("level", level)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value:g}; it must lie between 0 and 1")
    if not np.isfinite(flat).all():
        return TTest(math.nan, math.nan, math.nan, math.nan, math.nan)
    mean = float(flat.mean())
    freedom = flat.size - 1
    correction = 1.0 / flat.size + test_share / (1.0 - test_share)
    error = math.sqrt(correction * float(flat.var(ddof=1)))
    if error == 0.0:
        return TTest(mean, mean, mean, 0.5 if mean == 0.0 else float(mean < 0.0), 0.0)
    half_width = float(stdtrit(freedom, 0.5 + level / 2.0)) * error
    p_value = float(stdtr(freedom, -mean / error))
    return TTest(mean, mean - half_width, mean + half_width, p_value, error)


def detectable_gain(error: float, alpha: float, power: float = 0.8) -> float:
    """The true gain that a one-sided test at level `alpha` finds with probability `power`.

    By the normal approximation, with `error` the standard error of the mean difference.
    """
    normal = NormalDist()
    return error * (normal.inv_cdf(1.0 - alpha) + normal.inv_cdf(power))
