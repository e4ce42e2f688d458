"""Percentile bootstrap over rows, with resamples as weights of the rows.

A resample is stored as the number of times that it drew each row. Counts are then weighted sums,
so that thousands of resamples are scored at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bc_pipeline.artifacts.evidence import Interval


@lru_cache(maxsize=4)
def row_weights(rows: int, rounds: int, seed: int) -> np.ndarray:
    """Number of times that each resample drew each row.

    The same arguments give the same resamples, so that two models can be compared in pairs.

    Returns
    -------
    array of float64, shape (rounds, rows)
        Whole numbers that add up to `rows` in each resample; read-only.
    """
    drawn = np.random.default_rng(seed).integers(0, rows, size=(rounds, rows))
    drawn += np.arange(rounds)[:, None] * rows
    counts = np.bincount(drawn.ravel(), minlength=rounds * rows)
    weights = counts.reshape(rounds, rows).astype(np.float64)
    weights.flags.writeable = False
    return weights


def percentile_interval(estimates: np.ndarray, level: float) -> Interval:
    """Two-sided percentile interval of bootstrap estimates.

    Parameters
    ----------
    estimates : array of float64, shape (rounds,)
        NaN where a resample leaves the estimate undefined.
    level : float
        Coverage, such as 0.95.

    Returns
    -------
    Interval
        Without limits where the share of undefined resamples is larger than a tail.
    """
    defined = estimates[~np.isnan(estimates)]
    tail = (1.0 - level) / 2.0
    if estimates.size == 0 or 1.0 - defined.size / estimates.size > tail:
        return Interval(None, None, level)
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(float(low), float(high), level)
