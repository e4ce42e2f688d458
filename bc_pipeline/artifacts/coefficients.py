"""Coefficients of a logistic regression, to predict without ONNX Runtime.

ONNX Runtime is made for batches: for one row of thirty numbers, a call of it takes many times
as long as the arithmetic, and displaces the request's data from the processor's caches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul, sub, truediv
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.document import Document

if TYPE_CHECKING:
    import numpy as np

COEFFICIENTS_FORMAT = 1
# So many rows of a column stay in the processor's nearest cache while all columns are added.
_ROWS = 1 << 12


class Coefficients(Document, frozen=True, kw_only=True):
    """A logistic regression on standardised features; the format of ``coefficients.json``.

    The probability is 1 / (1 + exp(-(intercept + sum of weight * (value - mean) / scale))).

    Attributes
    ----------
    mean, scale, weights : tuple of float
        One of each per feature, in the order of the manifest's schema.
    """

    format: int = COEFFICIENTS_FORMAT
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def fits(self, n_features: int) -> bool:
        """Whether there is one coefficient per feature, and no division by zero."""
        widths = {len(self.mean), len(self.scale), len(self.weights)}
        return widths == {n_features} and 0.0 not in self.scale

    def positive(self, values: Sequence[float]) -> float:
        """Probability of the positive class of one row."""
        scaled = map(truediv, map(sub, values, self.mean), self.scale)
        score = sum(map(mul, scaled, self.weights)) + self.intercept
        try:
            return 1.0 / (1.0 + math.exp(-score))
        except OverflowError:
            return 0.0

    def positive_each(self, values: np.ndarray) -> np.ndarray:
        """Probability of the positive class of each row, by the arithmetic of `positive`.

        A row's terms are added in the order of the features, whatever rows stand beside it: its
        probability does not depend on them, as that of a matrix product does.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)
            Fastest where columns are contiguous.
        """
        import numpy as np

        answer = np.empty(len(values))
        for start in range(0, len(values), _ROWS):
            rows = values[start : start + _ROWS]
            score = np.zeros(len(rows))
            for column, mean, scale, weight in zip(
                rows.T, self.mean, self.scale, self.weights, strict=True
            ):
                score += (column - mean) / scale * weight
            score += self.intercept
            with np.errstate(over="ignore"):
                answer[start : start + _ROWS] = 1.0 / (1.0 + np.exp(-score))
        return answer
