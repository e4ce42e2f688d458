"""An order of rows in which similar ones stand side by side.

A row's way through a tree is a chain of comparisons, each of which a processor guesses before it
is made. Where the row before went the same way, it guesses right: a forest takes two thirds of the
time.
"""

from __future__ import annotations

import numpy as np

# With more, the groups of a block of some thousand rows have a few rows each.
_COMPONENTS = 8


def similar_order(values: np.ndarray) -> np.ndarray:
    """Order rows by the signs of their principal components, then by the first component.

    Parameters
    ----------
    values : array of float64, shape (n, k)
        Finite.

    Returns
    -------
    array of int64, shape (n,)
        Positions of the rows.
    """
    scale = values.std(axis=0)
    standard = (values - values.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    directions = np.linalg.eigh(standard.T @ standard)[1][:, ::-1]
    first, *others = (standard @ directions[:, :_COMPONENTS]).T
    group = sum(
        ((part > 0) * 2.0**place for place, part in enumerate(reversed(others))), np.zeros(1)
    )
    # A share below 1 orders the rows within their group.
    within = (first - first.min()) / (np.ptp(first) + 1.0)
    return np.argsort(group + within)
