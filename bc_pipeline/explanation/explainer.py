"""Explains a record's probability: the contribution of each feature to the log-odds.

Only the model's predictions are used. If its log-odds are linear in the features, which is
tested once per model, a contribution is the coefficient times the distance from the reference,
and exact; if not, it is a Shapley value, estimated with its standard error. In both cases base
and contributions add up to the log-odds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from bc_pipeline.explanation import shapley
from bc_pipeline.explanation.linear_form import (
    TOLERANCE,
    Positive,
    find_linear_form,
    logit,
    sigmoid,
)

# Descriptions of the reference record.
MEDIANS = "the median of each feature in the training rows"
CENTRE = "the centre of each feature's training range: this version has no medians"
# Nearer to 0 or 1, rounding of the probability changes its log-odds noticeably.
_BOUND = 1e-6
_PROBES, _STEPS, _SWEEPS = 256, 9, 2
_SEED = 20240302


class Explanation(msgspec.Struct, frozen=True):
    """The contributions to the log-odds of the positive class of one record.

    Attributes
    ----------
    method : {"linear", "permutation-shapley"}
    reference : str
        Description of the record that this one is compared with.
    reference_values : dict of str to float
        Its values, by feature.
    reference_probability : float
        The model's probability of the positive class for it.
    base_log_odds : float
        Log-odds of the reference.
    contributions : dict of str to float
        By feature; with `base_log_odds` they sum to `log_odds`.
    log_odds : float
        Of the positive class: the logit of the served probability, within 1e-9, unless
        `clipped`.
    clipped : bool
        The probability is too near 0 or 1 for an exact logit. With "linear" the log-odds are
        then those of the linear form, before rounding; with "permutation-shapley" those of
        the nearest probability within bounds.
    permutations : int or None
        Number of orders of the features averaged; None where nothing is estimated.
    standard_errors : dict of str to float, or None
        Of the contributions.
    """

    method: Literal["linear", "permutation-shapley"]
    reference: str
    reference_values: dict[str, float]
    reference_probability: float
    base_log_odds: float
    contributions: dict[str, float]
    log_odds: float
    clipped: bool
    permutations: int | None = None
    standard_errors: dict[str, float] | None = None


class Explainer:
    """Explains the answers of one model.

    Parameters
    ----------
    positive : callable
        Probabilities of the positive class, shape (n,), of rows of shape (n, k).
    names : sequence of str, length k
    reference : sequence of float, length k
        The record that others are compared with.
    ranges : array of float64, shape (k, 2)
        Lowest and highest value of each feature in training.
    train_rows : int
    description : str
        Of the reference, for a reader.

    Attributes
    ----------
    bound : float
        Probabilities are clipped to it and 1 - `bound` before their logit is computed. It is
        larger, 1 / (2 (train_rows + 1)), for a model that returns exactly 0 or 1 inside its
        training range, such as a forest whose trees agree: `train_rows` rows of one class are
        evidence for no more certainty.
    """

    def __init__(
        self,
        positive: Positive,
        names: Sequence[str],
        reference: Sequence[float],
        ranges: np.ndarray,
        train_rows: int,
        description: str = MEDIANS,
    ) -> None:
        self._positive = positive
        self._names = tuple(names)
        self._description = description
        self._reference = np.array(reference, dtype=np.float64)
        self._reference_values = dict(zip(self._names, self._reference.tolist(), strict=True))
        self._linear = find_linear_form(positive, self._reference, ranges)
        self._reference_probability = float(positive(self._reference[None])[0])
        self.bound = self._bound(ranges, train_rows)

    @property
    def method(self) -> Literal["linear", "permutation-shapley"]:
        """The method for records of this model."""
        return "permutation-shapley" if self._linear is None else "linear"

    def explain(self, values: Sequence[float]) -> Explanation:
        """Explain one record; the same record always has the same explanation.

        Parameters
        ----------
        values : sequence of float
            In schema order, finite.
        """
        row = np.array(values, dtype=np.float64)
        probability = float(self._positive(row[None])[0])
        return self._by_coefficients(row, probability) or self._by_sampling(row, probability)

    def _by_coefficients(self, row: np.ndarray, probability: float) -> Explanation | None:
        """None where the model is not linear, or not linear at this record."""
        if self._linear is None:
            return None
        # Adding zero turns -0.0 into 0.0.
        terms = (self._linear.coefficients * (row - self._reference) + 0.0).tolist()
        base = self._linear.base
        try:
            log_odds = math.fsum([base, *terms])
        except (OverflowError, ValueError):
            return None
        if not abs(sigmoid(log_odds) - probability) <= TOLERANCE:
            return None
        return Explanation(
            method="linear",
            reference=self._description,
            reference_values=self._reference_values,
            reference_probability=self._reference_probability,
            base_log_odds=base,
            contributions=dict(zip(self._names, terms, strict=True)),
            log_odds=log_odds,
            clipped=abs(logit(probability) - log_odds) > TOLERANCE,
        )

    def _by_sampling(self, row: np.ndarray, probability: float) -> Explanation:
        ends = (self._reference_probability, probability)
        sampled = shapley.sample(self._positive, self._reference, row, ends, self.bound)
        clipped = [min(max(end, self.bound), 1 - self.bound) for end in ends]
        return Explanation(
            method="permutation-shapley",
            reference=self._description,
            reference_values=self._reference_values,
            reference_probability=self._reference_probability,
            base_log_odds=logit(clipped[0]),
            contributions=self._named(sampled.contributions),
            log_odds=logit(clipped[1]),
            clipped=clipped[1] != probability,
            permutations=sampled.permutations,
            standard_errors=self._named(sampled.standard_errors),
        )

    def _named(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self._names, (values + 0.0).tolist(), strict=True))

    def _bound(self, ranges: np.ndarray, train_rows: int) -> float:
        if self._linear is not None or not _returns_zero_or_one(self._positive, ranges):
            return _BOUND
        return max(_BOUND, 0.5 / (train_rows + 1))


def _returns_zero_or_one(positive: Positive, ranges: np.ndarray) -> bool:
    """Whether the model returns exactly 0 or 1 within the range, by coordinate search.

    Starting from the lowest and the highest of some random rows, one feature after the other
    is set to the value with the lowest, or highest, probability.
    """
    low, high = ranges.T
    rows = low + np.random.default_rng(_SEED).random((_PROBES, len(low))) * (high - low)
    probabilities = positive(rows)
    grid = np.linspace(0, 1, _STEPS)[:, None] * (high - low) + low
    for sign, start in ((1, np.argmin(probabilities)), (-1, np.argmax(probabilities))):
        row = rows[start]
        for feature in [*range(len(low))] * _SWEEPS:
            candidates = np.tile(row, (_STEPS + 1, 1))
            candidates[1:, feature] = grid[:, feature]
            probabilities = positive(candidates)
            row = candidates[np.argmin(sign * probabilities)]
            if np.any((probabilities <= 0) | (probabilities >= 1)):
                return True
    return False
