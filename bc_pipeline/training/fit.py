"""Fitting an estimator, and its probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from bc_pipeline.errors import DegenerateModel
from bc_pipeline.problems.base import Candidate


def fit(
    candidate: Candidate, seed: int, values: np.ndarray, positive: np.ndarray, threads: int = 1
) -> Any:
    """Fit a candidate; the same rows in the same order give the same model.

    Parameters
    ----------
    candidate : Candidate
    seed : int
        Seed of the estimator.
    values : array of float64, shape (n, n_features)
    positive : array of int, shape (n,)
        1 where the row is of the positive class; both classes must occur.
    threads : int
        Maximum of OpenMP and BLAS threads.

    Returns
    -------
    estimator
        A fitted scikit-learn estimator; column 1 of its ``predict_proba`` is the positive class.

    Raises
    ------
    DegenerateModel
        Where its probabilities on the train rows are constant or not finite.
    """
    from threadpoolctl import threadpool_limits

    if not positive.any() or positive.all():
        raise DegenerateModel(
            f"{candidate.title} cannot be fitted to rows of one class only.",
            candidate=candidate.name,
        )
    estimator = candidate.build(candidate.params, seed)
    with threadpool_limits(limits=threads):
        estimator.fit(values, positive)
        positive_probability(candidate, estimator, values)
    return estimator


def positive_probability(candidate: Candidate, estimator: Any, values: np.ndarray) -> np.ndarray:
    """Probability of the positive class for each row.

    Parameters
    ----------
    candidate : Candidate
        Named in the error.
    estimator : fitted scikit-learn classifier
    values : array of float64, shape (n, n_features)

    Returns
    -------
    array of float64, shape (n,)

    Raises
    ------
    DegenerateModel
        Where the probabilities are not finite, not within 0 and 1, or all the same.
    """
    probability = np.asarray(estimator.predict_proba(values)[:, 1], dtype=np.float64)
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        fault = "probabilities that are not numbers between 0 and 1"
    elif np.ptp(probability) == 0.0:
        fault = "the same probability for every row"
    else:
        return probability
    raise DegenerateModel(f"{candidate.title} gave {fault}.", candidate=candidate.name)
