"""Shapley values of one record's log-odds against one reference record, by sampling.

Features are moved from the reference to the record one after another, in random order, and
each is credited with the change of the log-odds at its turn: the mean over orders estimates
the Shapley value (Castro, Gomez and Tejada, "Polynomial calculation of the Shapley value
based on sampling", Computers & Operations Research 36, 2009; Strumbelj and Kononenko,
"Explaining prediction models and individual predictions with feature contributions",
Knowledge and Information Systems 41, 2014). Features not yet moved keep the reference's
value whatever the others say: the interventional reading of Lundberg and Lee, "A unified
approach to interpreting model predictions", NeurIPS 2017, with one background record. Each
order is used backwards too, which lowers the error (Mitchell, Cooper, Frank and Holmes,
"Sampling permutations for Shapley value estimation", JMLR 23, 2022).

In every order the changes add up to the whole difference, so the values do exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bc_pipeline.serving.model.linear_form import Positive, logits

# Bounds of time and memory: rows asked for one record, and values in one call of the model.
_ROWS = 30_000
_VALUES = 1 << 20
_MOST_PAIRS, _FEWEST_PAIRS = 512, 16


@dataclass(frozen=True)
class Sampled:
    """Estimates of the Shapley values.

    Attributes
    ----------
    contributions, standard_errors : array of float64, shape (k,)
        0 for a feature in which record and reference agree.
    permutations : int
        Orders that were averaged, half of them the other half's reverse.
    """

    contributions: np.ndarray
    standard_errors: np.ndarray
    permutations: int


def pairs_for(moving: int) -> int:
    """How many orders and their reverses are drawn where that many features move."""
    return int(np.clip(_ROWS // (2 * max(moving - 1, 1)), _FEWEST_PAIRS, _MOST_PAIRS))


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
        The model.
    reference, values : array of float64, shape (k,)
    ends : (float, float)
        Probabilities of reference and record.
    bound : float
        Probabilities are held between it and 1 - `bound` before their log-odds are taken.
    pairs : int or None
        Orders drawn; as `pairs_for` has it where it is None.
    """
    contributions, errors = np.zeros_like(values), np.zeros_like(values)
    moving = np.flatnonzero(values != reference)
    count = len(moving)
    pairs = pairs or pairs_for(count)
    if not count:
        return Sampled(contributions, errors, 2 * pairs)
    # Adding zero makes the negative zero a plain one, which is the same record.
    digest = hashlib.sha256((values + 0.0).tobytes()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    total, squares = np.zeros(count), np.zeros(count)
    # Shifted by the mean of the first part: squares of small differences keep their digits.
    shift: np.ndarray | None = None
    part = max(1, _VALUES // (2 * count * len(values)))
    for first in range(0, pairs, part):
        orders = rng.random((min(part, pairs - first), count)).argsort(axis=1)
        credit = _credit(positive, reference, values, moving, orders, ends, bound)
        shift = credit.mean(axis=0) if shift is None else shift
        total += (credit - shift).sum(axis=0)
        squares += ((credit - shift) ** 2).sum(axis=0)
    assert shift is not None
    mean = total / pairs
    variance = np.maximum(squares - pairs * mean**2, 0.0) / max(pairs - 1, 1)
    contributions[moving] = shift + mean
    errors[moving] = np.sqrt(variance / pairs)
    return Sampled(contributions, errors, 2 * pairs)


def _credit(
    positive: Positive,
    reference: np.ndarray,
    values: np.ndarray,
    moving: np.ndarray,
    orders: np.ndarray,
    ends: tuple[float, float],
    bound: float,
) -> np.ndarray:
    """Change credited to each moving feature, averaged over each order and its reverse.

    Returns
    -------
    array of float64, shape (n_orders, n_moving)
    """
    pairs, count = orders.shape
    both = np.concatenate([orders, orders[:, ::-1]])
    turn = both.argsort(axis=1)
    moved = np.zeros((2 * pairs, count - 1, len(values)), dtype=bool)
    moved[:, :, moving] = turn[:, None, :] <= np.arange(count - 1)[:, None]
    probability = np.empty((2 * pairs, count + 1))
    probability[:, 0], probability[:, -1] = ends
    if count > 1:
        rows = np.where(moved, values, reference).reshape(-1, len(values))
        probability[:, 1:-1] = positive(rows).reshape(2 * pairs, count - 1)
    steps = np.diff(logits(np.clip(probability, bound, 1 - bound)), axis=1)
    credit = np.take_along_axis(steps, turn, axis=1)
    both_ways: np.ndarray = (credit[:pairs] + credit[pairs:]) / 2
    return both_ways
