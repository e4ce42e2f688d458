"""Finds the linear form of a model's log-odds from its predictions, if it has one.

Near 1 the log-odds of a probability p are inexact, because 1 - p is rounded; near 0 they are
exact. The probes therefore stay where p is small or moderate, so that a coefficient is as exact
as the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Positive = Callable[[np.ndarray], np.ndarray]
"""Probabilities of the positive class, shape (n,), of rows of shape (n, k)."""

TOLERANCE = 1e-9
"""Largest difference of log-odds, or of a probability, from the linear form."""

# Log-odds between which a probe is exact to about 1e-14, and the preferred ones of the anchor.
_LOWEST, _HIGHEST, _ANCHOR = -30.0, 3.0, -2.0
_ANCHORS = 256
_CHECKS = 256
# Steps from the anchor to either end of a feature's range, as shares of the distance.
_STEPS = 0.25 ** np.arange(8)
_SEEDS = (20240229, 20240301)


def logit(probability: float) -> float:
    """Log-odds of a probability; infinite for 0 and 1."""
    if not 0 < probability < 1:
        return math.inf if probability >= 1 else -math.inf
    return math.log(probability) - math.log1p(-probability)


def sigmoid(log_odds: float) -> float:
    """The probability with these log-odds."""
    exponential = math.exp(-abs(log_odds))
    return (1.0 if log_odds >= 0 else exponential) / (1 + exponential)


def logits(probabilities: np.ndarray) -> np.ndarray:
    """`logit` of each element."""
    with np.errstate(divide="ignore", invalid="ignore"):
        odds: np.ndarray = np.log(probabilities) - np.log1p(-probabilities)
    return odds


@dataclass(frozen=True)
class LinearForm:
    """Log-odds = base + coefficients . (values - reference).

    Attributes
    ----------
    base : float
        Log-odds of the reference.
    coefficients : array of float64, shape (k,)
        Per unit of each feature.
    """

    base: float
    coefficients: np.ndarray


def find_linear_form(
    positive: Positive, reference: np.ndarray, ranges: np.ndarray
) -> LinearForm | None:
    """The linear form of a model's log-odds over the training range; None where it has none.

    Coefficients are differences between an anchor inside the range and one probe per feature.
    They are then tested on other random rows, and on the same rows moved towards the anchor
    until their log-odds are exact: all must agree within `TOLERANCE`. The probes are the same
    at every call.

    Parameters
    ----------
    positive : callable
        Predicts with the model.
    reference : array of float64, shape (k,)
    ranges : array of float64, shape (k, 2)
        Lowest and highest value of each feature in training.
    """
    low, high = ranges[:, 0], ranges[:, 1]
    # A feature that is constant in training needs a step, too.
    span = np.where(high > low, high - low, np.maximum(np.abs(low), 1.0))
    rng = np.random.default_rng(_SEEDS[0])
    candidates = low + rng.random((_ANCHORS, len(low))) * span
    distance = np.abs(logits(positive(candidates)) - _ANCHOR)
    anchor = candidates[np.argmin(distance)]
    start = logit(float(positive(anchor[None])[0]))
    if not _LOWEST <= start <= _HIGHEST:
        return None
    coefficients = _slopes(positive, anchor, start, low, low + span)
    if coefficients is None:
        return None
    rng = np.random.default_rng(_SEEDS[1])
    rows = low + rng.random((_CHECKS, len(low))) * span
    change = np.abs((rows - anchor) @ coefficients)
    nearer = anchor + np.minimum(1.0, 3.0 / np.maximum(change, 3.0))[:, None] * (rows - anchor)
    expected = start + (nearer - anchor) @ coefficients
    if not np.all(np.abs(logits(positive(nearer)) - expected) <= TOLERANCE):
        return None
    far = [sigmoid(value) for value in start + (rows - anchor) @ coefficients]
    if not np.all(np.abs(positive(rows) - far) <= TOLERANCE):
        return None
    return LinearForm(start + float((reference - anchor) @ coefficients), coefficients)


def _slopes(
    positive: Positive, anchor: np.ndarray, start: float, low: np.ndarray, high: np.ndarray
) -> np.ndarray | None:
    """Change of the log-odds per unit of each feature, by the longest exact step.

    None where no step of some feature stays where log-odds are exact.
    """
    width = len(anchor)
    steps = np.concatenate([_STEPS[:, None] * (end - anchor) for end in (low, high)])
    probes = np.tile(anchor, (len(steps), width, 1))
    columns = np.arange(width)
    probes[:, columns, columns] += steps
    moved = probes[:, columns, columns] - anchor
    log_odds = logits(positive(probes.reshape(-1, width))).reshape(len(steps), width)
    exact = (log_odds >= _LOWEST) & (log_odds <= _HIGHEST) & (moved != 0)
    if not exact.any(axis=0).all():
        return None
    best = np.argmax(np.where(exact, np.abs(moved), -1.0), axis=0)
    slopes: np.ndarray = (log_odds[best, columns] - start) / moved[best, columns]
    return slopes
