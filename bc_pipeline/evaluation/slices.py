"""Named parts of the rows on which a model is looked at separately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bc_pipeline.problems.base import Problem


@dataclass(frozen=True)
class SliceBounds:
    """A slice with its quantiles turned into feature values, so that it fits any rows.

    Attributes
    ----------
    name : str
    column : int
        Index of the feature in schema order.
    low, high : float
        A row belongs to the slice where ``low <= value < high``.
    """

    name: str
    column: int
    low: float
    high: float

    def contains(self, values: np.ndarray) -> np.ndarray:
        """Which rows belong to the slice.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)

        Returns
        -------
        array of bool, shape (n,)
        """
        column = values[:, self.column]
        return np.asarray((column >= self.low) & (column < self.high))


def resolve(problem: Problem, train_values: np.ndarray) -> tuple[SliceBounds, ...]:
    """Turn the quantiles of the problem's slices into feature values.

    Only train rows set the bounds, so that the holdout has no say in how it is cut. An
    outermost quantile becomes infinite: a row beyond every train row still has its slice.

    Parameters
    ----------
    train_values : array of float64, shape (n, n_features)
        In schema order, with at least one row where the problem has slices.
    """
    names: Sequence[str] = problem.schema.names
    bounds = []
    for part in problem.slices:
        column = names.index(part.feature)
        low, high = np.quantile(train_values[:, column], [part.low_quantile, part.high_quantile])
        bounds.append(
            SliceBounds(
                name=part.name,
                column=column,
                low=float(low) if part.low_quantile > 0.0 else -math.inf,
                high=float(high) if part.high_quantile < 1.0 else math.inf,
            )
        )
    return tuple(bounds)
