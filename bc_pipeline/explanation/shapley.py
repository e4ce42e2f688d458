"""Shapley values of one record's log-odds against one reference record, by sampling.

Features are changed from the reference's value to the record's one after another, in random
order, and each is credited with the change of the log-odds at its step: the mean over orders
estimates the Shapley value (Castro, Gomez and Tejada, "Polynomial calculation of the Shapley value
based on sampling", Computers & Operations Research 36, 2009; Strumbelj and Kononenko,
"Explaining prediction models and individual predictions with feature contributions",
Knowledge and Information Systems 41, 2014). Features not yet changed keep the reference's
value independently of the others: the interventional definition of Lundberg and Lee, "A unified
approach to interpreting model predictions", NeurIPS 2017, with one background record. Each
order is used in reverse too, which reduces the error (Mitchell, Cooper, Frank and Holmes,
"Sampling permutations for Shapley value estimation", JMLR 23, 2022).

In every order the changes add up to the whole difference, so the estimates do too, exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bc_pipeline.explanation.linear_form import Positive, logits

# Limits of time and memory: rows predicted per record, and values per call of the model.
_MAX_ROWS = 30_000
_MAX_VALUES = 1 << 20
_MAX_PAIRS, _MIN_PAIRS = 512, 16


@dataclass(frozen=True)
class Sampled:
    """Estimates of the Shapley values of one record.

    Attributes
    ----------
    contributions, standard_errors : array of float64, shape (k,)
        0 for a feature in which record and reference agree.
    permutations : int
        Number of orders averaged; half of them are the reverse of the other half.
    """

    contributions: np.ndarray
    standard_errors: np.ndarray
    permutations: int


def pairs_for(differing: int) -> int:
    """Number of pairs of an order and its reverse where that many features differ."""
    return int(np.clip(_MAX_ROWS // (2 * max(differing - 1, 1)), _MIN_PAIRS, _MAX_PAIRS))


def sample(
    positive: Positive,
    reference: np.ndarray,
    values: np.ndarray,
    ends: tuple[float, float],
    bound: float,
    pairs: int | None = None,
) -> Sampled:
    """Estimate the Shapley values of a record; the same record gives the same estimates.

    Parameters
    ----------
    positive : callable
        Predicts with the model.
    reference, values : array of float64, shape (k,)
    ends : (float, float)
        Probabilities of reference and record.
    bound : float
        Probabilities are clipped to it and 1 - `bound` before their log-odds are computed.
    pairs : int or None
        Pairs of orders; by default `pairs_for` the features that differ.
    """
    contributions, errors = np.zeros_like(values), np.zeros_like(values)
    differing = np.flatnonzero(values != reference)
    count = len(differing)
    pairs = pairs or pairs_for(count)
    if not count:
        return Sampled(contributions, errors, 2 * pairs)
    # Adding zero turns -0.0 into 0.0, so that equal records have equal digests.
    digest = hashlib.sha256((values + 0.0).tobytes()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    total, squares = np.zeros(count), np.zeros(count)
    # Shifted by the mean of the first part, so that squares of small differences stay exact.
    shift: np.ndarray | None = None
    part = max(1, _MAX_VALUES // (2 * count * len(values)))
    for first in range(0, pairs, part):
        orders = rng.random((min(part, pairs - first), count)).argsort(axis=1)
        credit = _credit(positive, reference, values, differing, orders, ends, bound)
        shift = credit.mean(axis=0) if shift is None else shift
        total += (credit - shift).sum(axis=0)
        squares += ((credit - shift) ** 2).sum(axis=0)
    assert shift is not None
    mean = total / pairs
    variance = np.maximum(squares - pairs * mean**2, 0.0) / max(pairs - 1, 1)
    contributions[differing] = shift + mean
    errors[differing] = np.sqrt(variance / pairs)
    return Sampled(contributions, errors, 2 * pairs)


def _credit(
    positive: Positive,
    reference: np.ndarray,
    values: np.ndarray,
    differing: np.ndarray,
    orders: np.ndarray,
    ends: tuple[float, float],
    bound: float,
) -> np.ndarray:
    """Change credited to each differing feature, averaged over each order and its reverse.

    Returns
    -------
    array of float64, shape (n_orders, n_differing)
    """
    pairs, count = orders.shape
    both = np.concatenate([orders, orders[:, ::-1]])
    rank = both.argsort(axis=1)
    changed = np.zeros((2 * pairs, count - 1, len(values)), dtype=bool)
    changed[:, :, differing] = rank[:, None, :] <= np.arange(count - 1)[:, None]
    probability = np.empty((2 * pairs, count + 1))
    probability[:, 0], probability[:, -1] = ends
    if count > 1:
        rows = np.where(changed, values, reference).reshape(-1, len(values))
        probability[:, 1:-1] = positive(rows).reshape(2 * pairs, count - 1)
    steps = np.diff(logits(np.clip(probability, bound, 1 - bound)), axis=1)
    credit = np.take_along_axis(steps, rank, axis=1)
    both_ways: np.ndarray = (credit[:pairs] + credit[pairs:]) / 2
    return both_ways
