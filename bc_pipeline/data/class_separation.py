"""How well a feature by itself separates the classes: the area under its ROC curve."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Area = TypeVar("Area", float, np.ndarray)


def class_areas(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each feature by itself, in its better direction.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
    positive : array of bool, shape (n,)
        With rows of both classes.

    Returns
    -------
    array of float64, shape (n_features,)
        From .5 to 1.
    """
    from scipy.stats import rankdata

    high, low = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(values, axis=0)[positive].sum(axis=0)
    areas = (ranks - high * (high + 1) / 2) / (high * low)
    return np.asarray(np.maximum(areas, 1 - areas))


def area_variance(area: Area, high: int, low: int) -> Area:
    """Variance of the area that rows of a population have.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", 1982.

    Parameters
    ----------
    area : float or array of float64
        Of the population.
    high, low : int
        Number of rows of either class.
    """
    both_high, both_low = area / (2 - area), 2 * area**2 / (1 + area)
    variance: Area = area * (1 - area)
    variance += (high - 1) * (both_high - area**2) + (low - 1) * (both_low - area**2)
    return variance / (high * low)
