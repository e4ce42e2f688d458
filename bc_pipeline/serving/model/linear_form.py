"""Whether a model's log-odds are linear in the features, found out by asking it alone.

The service knows a model by its answers. A probability p near 1 has lost the digits that
its log-odds need (1 - p is rounded), one near 0 has not: the probes stay where p is small
or moderate, and only then is a coefficient as exact as the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Positive = Callable[[np.ndarray], np.ndarray]
"""Probabilities of the positive class, shape (n,), of rows of shape (n, k)."""

TOLERANCE = 1e-9
"""How far log-odds, or a probability, may lie from the linear form that is to explain it."""

# Log-odds between which a probe is exact to about 1e-14; the anchor is sought in the middle.
_LOWEST, _HIGHEST, _ANCHOR = -30.0, 3.0, -2.0
_ANCHORS = 256
_CHECKS = 256
# Steps from the anchor towards either end of a feature's range, as shares of the way.
_STEPS = 0.25 ** np.arange(8)
_SEEDS = (20240229, 20240301)


def logit(probability: float) -> float:
    """Log-odds of a probability; infinite for 0 and 1."""
    if not 0 < probability < 1:
        return math.inf if probability >= 1 else -math.inf
    return math.log(probability) - math.log1p(-probability)


def sigmoid(log_odds: float) -> float:
    """The probability that has these log-odds."""
    grown = math.exp(-abs(log_odds))
    return 1 / (1 + grown) if log_odds >= 0 else grown / (1 + grown)


def logits(probabilities: np.ndarray) -> np.ndarray:
    """`logit` of every element."""
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

    Coefficients are differences between an anchor inside the range and one probe for each
    feature. Fresh random rows then decide, as they are and drawn towards the anchor until
    their log-odds can be had exactly: each must agree within `TOLERANCE`. The probes are the
    same at every call.

    Parameters
    ----------
    positive : callable
        The model.
    reference : array of float64, shape (k,)
    ranges : array of float64, shape (k, 2)
        Lowest and highest value of each feature in training.
    """
    low, high = ranges[:, 0], ranges[:, 1]
    # A feature that never varied still needs a step to be asked about.
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
    """Change of the log-odds per unit of each feature, by the longest step that is exact.

    None where every step of a feature leaves the band in which log-odds are exact.
    """
    width = len(anchor)
    ways = np.concatenate([_STEPS[:, None] * (end - anchor) for end in (low, high)])
    probes = np.tile(anchor, (len(ways), width, 1))
    every = np.arange(width)
    probes[:, every, every] += ways
    moved = probes[:, every, every] - anchor
    found = logits(positive(probes.reshape(-1, width))).reshape(len(ways), width)
    exact = (found >= _LOWEST) & (found <= _HIGHEST) & (moved != 0)
    if not exact.any(axis=0).all():
        return None
    best = np.argmax(np.where(exact, np.abs(moved), -1.0), axis=0)
    slopes: np.ndarray = (found[best, every] - start) / moved[best, every]
    return slopes
