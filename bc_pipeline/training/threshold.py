"""The threshold of a model, set on probabilities of rows that it was not trained on."""

from __future__ import annotations

import math

import numpy as np

from bc_pipeline.errors import DegenerateModel


def sensitivity_threshold(
    candidate: str, positive: np.ndarray, probability: np.ndarray, target: float
) -> float:
    """The highest threshold at which a new positive row is called with the probability `target`.

    Of n positive rows, ``ceil(target * (n + 1))`` must be called, and at most all of them: a new
    row lies below the k-th highest of n with probability k / (n + 1), so that ``target * n``
    of them would call too few new ones. This is the rule of split conformal prediction.

    A row is called positive where its probability is above the threshold. The threshold must
    therefore be below the probability of the last positive row that is required. All thresholds
    down to the next lower probability of any row give the same calls; the middle of that
    interval is returned, so that no row lies on the threshold.

    Parameters
    ----------
    candidate : str
        Named in the error.
    positive : array of int, shape (n,)
    probability : array of float64, shape (n,)
        Of the positive class, out of fold.
    target : float
        Above 0, at most 1.

    Raises
    ------
    DegenerateModel
        Where no threshold reaches the target: too many positive rows have probability 0.

    References
    ----------
    J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, "Distribution-free
    predictive inference for regression", Journal of the American Statistical Association 113,
    2018: the rank k.
    """
    descending = np.sort(probability[positive == 1])[::-1]
    # Without the tolerance .55 * 100, which is a little above 55, would require 56 rows.
    required = math.ceil(target * (descending.size + 1) - 1e-9)
    last = float(descending[min(required, descending.size) - 1])
    if last <= 0.0:
        raise DegenerateModel(
            f"No threshold gives {candidate} an out-of-fold sensitivity of {target:g}.",
            candidate=candidate,
        )
    below = probability[probability < last]
    floor = float(below.max()) if below.size else 0.0
    middle = (floor + last) / 2.0
    # Neighbouring floats have no middle: the lower one is the threshold then.
    return middle if middle < last else floor
