"""Slices: named subsets of the rows on which a model is scored separately."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bc_pipeline.problems.base import Problem


@dataclass(frozen=True)
class SliceBounds:
    """A slice whose bounds are feature values.

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
        """Whether each row belongs to the slice.

        Parameters
        ----------
        values : array of float64, shape (n, n_features)

        Returns
        -------
        array of bool, shape (n,)
        """
        column = values[:, self.column]
        return np.asarray((column >= self.low) & (column < self.high))


def resolve_slices(problem: Problem, train_values: np.ndarray) -> tuple[SliceBounds, ...]:
    """Convert the quantiles of the problem's slices to feature values.

    Bounds come from train rows alone. The quantiles 0 and 1 become infinite, so that a row
    outside the range of the train rows belongs to a slice too.

    Parameters
    ----------
    train_values : array of float64, shape (n, n_features)
        In schema order, with at least one row where the problem has slices.
    """
    bounds = []
    for slice_ in problem.slices:
        column = problem.schema.names.index(slice_.feature)
        low, high = np.quantile(
            train_values[:, column], [slice_.low_quantile, slice_.high_quantile]
        )
        bounds.append(
            SliceBounds(
                name=slice_.name,
                column=column,
                low=float(low) if slice_.low_quantile > 0.0 else -math.inf,
                high=float(high) if slice_.high_quantile < 1.0 else math.inf,
            )
        )
    return tuple(bounds)
