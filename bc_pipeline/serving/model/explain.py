"""Why a record got its probability: what each feature adds to the log-odds.

A model is known by its answers alone, so one question decides the method, asked once for
each model: are its log-odds linear in the features? If so, a contribution is coefficient
times distance from the reference and is exact; if not, it is a Shapley value, estimated with
its standard error. Either way base and contributions add up to the log-odds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from bc_pipeline.serving.model import shapley
from bc_pipeline.serving.model.linear_form import (
    TOLERANCE,
    Positive,
    find_linear_form,
    logit,
    sigmoid,
)

if TYPE_CHECKING:
    from bc_pipeline.serving.model.live import Live

REFERENCE = "the centre of each feature's training range"
# Nearer to 0 or 1 the rounding of a probability shows in its log-odds.
_BOUND = 1e-6
_PROBES, _WAYS, _SWEEPS = 256, 9, 2
_SEED = 20240302


class Explanation(msgspec.Struct, frozen=True):
    """What made the log-odds of the positive class of one record.

    Attributes
    ----------
    method : {"linear", "permutation-shapley"}
    reference : str
        What the record is compared with, in words.
    reference_values : dict of str to float
        The same, by feature.
    base_log_odds : float
        Of the reference.
    contributions : dict of str to float
        By feature; with `base_log_odds` they sum to `log_odds`.
    log_odds : float
        Of the positive class: the logit of the probability that is served, within 1e-9,
        unless `clipped`.
    clipped : bool
        The probability is too near 0 or 1 for its logit to be of use. With "linear" the
        log-odds are then the linear form's, and rounding made the probability; with
        "permutation-shapley" they are those of the nearest probability that has some.
    permutations : int or None
        How many orders of the features were averaged; None where nothing is estimated.
    standard_errors : dict of str to float, or None
        Of the contributions.
    """

    method: Literal["linear", "permutation-shapley"]
    reference: str
    reference_values: dict[str, float]
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

    Attributes
    ----------
    bound : float
        Nearer to 0 or 1 a probability is taken for this far from it where its logit is
        needed. A model that answers exactly 0 or 1 inside its training range, as a forest
        does whose trees agree, has no log-odds there: what `train_rows` rows of one class
        leave to say, 1 / (2 (train_rows + 1)), bounds them.
    """

    def __init__(
        self,
        positive: Positive,
        names: Sequence[str],
        reference: Sequence[float],
        ranges: np.ndarray,
        train_rows: int,
    ) -> None:
        self._positive = positive
        self._names = tuple(names)
        self._reference = np.array(reference, dtype=np.float64)
        self._reference_values = dict(zip(self._names, self._reference.tolist(), strict=True))
        self._linear = find_linear_form(positive, self._reference, ranges)
        self._reference_probability = float(positive(self._reference[None])[0])
        self.bound = self._bound(ranges, train_rows)

    @classmethod
    def of(cls, live: Live) -> Explainer:
        """The explainer of a live model. Building it asks the model about three thousand rows."""
        manifest = live.manifest
        names = manifest.feature_schema.names
        return cls(
            live.predictor.positive,
            names,
            live.example,
            np.array([manifest.training_range[name] for name in names], dtype=np.float64),
            manifest.lineage.train_rows,
        )

    @property
    def method(self) -> Literal["linear", "permutation-shapley"]:
        """How records are explained."""
        return "permutation-shapley" if self._linear is None else "linear"

    def explain(self, values: Sequence[float]) -> Explanation:
        """Explain one record; the same record is always explained alike.

        Parameters
        ----------
        values : sequence of float
            In schema order, finite.
        """
        row = np.array(values, dtype=np.float64)
        probability = float(self._positive(row[None])[0])
        return self._by_coefficients(row, probability) or self._by_sampling(row, probability)

    def _by_coefficients(self, row: np.ndarray, probability: float) -> Explanation | None:
        """None where the model is not linear, or not as far out as this record."""
        if self._linear is None:
            return None
        # Zero is added so that no contribution is written -0.0.
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
            reference=REFERENCE,
            reference_values=self._reference_values,
            base_log_odds=base,
            contributions=dict(zip(self._names, terms, strict=True)),
            log_odds=log_odds,
            clipped=abs(logit(probability) - log_odds) > TOLERANCE,
        )

    def _by_sampling(self, row: np.ndarray, probability: float) -> Explanation:
        ends = (self._reference_probability, probability)
        sampled = shapley.sample(self._positive, self._reference, row, ends, self.bound)
        held = [min(max(end, self.bound), 1 - self.bound) for end in ends]
        return Explanation(
            method="permutation-shapley",
            reference=REFERENCE,
            reference_values=self._reference_values,
            base_log_odds=logit(held[0]),
            contributions=self._named(sampled.contributions),
            log_odds=logit(held[1]),
            clipped=held[1] != probability,
            permutations=sampled.permutations,
            standard_errors=self._named(sampled.standard_errors),
        )

    def _named(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self._names, (values + 0.0).tolist(), strict=True))

    def _bound(self, ranges: np.ndarray, train_rows: int) -> float:
        if self._linear is not None or not _is_ever_sure(self._positive, ranges):
            return _BOUND
        return max(_BOUND, 0.5 / (train_rows + 1))


def _is_ever_sure(positive: Positive, ranges: np.ndarray) -> bool:
    """Whether the model answers exactly 0 or 1 within the range, looked for where it may.

    From the surest of some random rows one feature after the other is moved to where the
    answer goes down, or up, most.
    """
    low, high = ranges.T
    rows = low + np.random.default_rng(_SEED).random((_PROBES, len(low))) * (high - low)
    answered = positive(rows)
    ways = np.linspace(0, 1, _WAYS)[:, None] * (high - low) + low
    for sign, start in ((1, np.argmin(answered)), (-1, np.argmax(answered))):
        row = rows[start]
        for feature in [*range(len(low))] * _SWEEPS:
            tried = np.tile(row, (_WAYS + 1, 1))
            tried[1:, feature] = ways[:, feature]
            found = positive(tried)
            row = tried[np.argmin(sign * found)]
            if np.any((found <= 0) | (found >= 1)):
                return True
    return False
