"""Slices and subgroups: named subsets of the rows on which a model is scored separately."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bc_pipeline.data.split import SplitSide
from bc_pipeline.problems.base import Problem

# Subgroups of one column.
_MOST_SUBGROUPS = 20
_SUBGROUP_ROWS = 10


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

    metadata = ""

    def contains(self, rows: SplitSide) -> np.ndarray:
        """Whether each row belongs to the slice: array of bool, shape (n,)."""
        column = rows.values[:, self.column]
        return np.asarray((column >= self.low) & (column < self.high))


@dataclass(frozen=True)
class Subgroup:
    """The rows with one value in a column of metadata.

    Attributes
    ----------
    metadata : str
        Name of the column.
    value : str
        Empty for the rows that have none.
    """

    metadata: str
    value: str

    @property
    def name(self) -> str:
        return f"{self.metadata}: {self.value or 'not given'}"

    def contains(self, rows: SplitSide) -> np.ndarray:
        """Whether each row belongs to the subgroup: array of bool, shape (n,)."""
        cells = rows.metadata.get(self.metadata, ("",) * len(rows))
        return np.array([cell == self.value for cell in cells], dtype=bool)


Part = SliceBounds | Subgroup


def find_parts(problem: Problem, train: SplitSide) -> tuple[Part, ...]:
    """The problem's slices, and the subgroups by metadata with enough train rows to be shown."""
    return (*resolve_slices(problem, train), *find_subgroups(train))


def find_subgroups(train: SplitSide) -> tuple[Subgroup, ...]:
    """One subgroup for each frequent value of each column of metadata, by column, then value.

    Values of fewer rows say little, and might tell who a sample is from.
    """
    return tuple(
        Subgroup(column, value)
        for column, cells in sorted(train.metadata.items())
        for value, rows in sorted(Counter(cells).most_common(_MOST_SUBGROUPS))
        if rows >= _SUBGROUP_ROWS
    )


def resolve_slices(problem: Problem, train: SplitSide) -> tuple[SliceBounds, ...]:
    """Convert the quantiles of the problem's slices to feature values.

    Bounds come from train rows alone, of which there is at least one where the problem has slices.
    The quantiles 0 and 1 become infinite, so that a row outside the range of the train rows belongs
    to a slice too.
    """
    bounds = []
    for slice_ in problem.slices:
        column = problem.schema.names.index(slice_.feature)
        low, high = np.quantile(
            train.values[:, column], [slice_.low_quantile, slice_.high_quantile]
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
