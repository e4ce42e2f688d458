"""Calibration slope and intercept: how far probabilities would have to be corrected."""

from __future__ import annotations

import numpy as np

from bc_pipeline.artifacts.evidence import Recalibration

_TINY = 1e-12
_MOST_STEPS = 100


def recalibrate(positive: np.ndarray, probability: np.ndarray) -> Recalibration | None:
    """Fit the logistic recalibration of probabilities.

    Parameters
    ----------
    positive : array of int, shape (n,)
    probability : array of float64, shape (n,)

    Returns
    -------
    Recalibration or None
        None where there is no such fit: one class only, or classes that a bound separates.

    References
    ----------
    D. R. Cox, "Two further applications of a model for binary regression", Biometrika 45, 1958.
    """
    truth = positive.astype(bool)
    if not truth.any() or truth.all():
        return None
    if probability[truth].min() >= probability[~truth].max():
        return None
    clipped = np.clip(probability, _TINY, 1 - _TINY)
    logit = np.log(clipped) - np.log1p(-clipped)
    fitted = _fit(np.column_stack([np.ones_like(logit), logit]), truth, np.zeros_like(logit))
    shift = _fit(np.ones((len(logit), 1)), truth, logit)
    if fitted is None or shift is None:
        return None
    return Recalibration(
        slope=float(fitted[0][1]), slope_error=float(fitted[1][1]), intercept=float(shift[0][0])
    )


def _fit(
    design: np.ndarray, truth: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Maximum likelihood estimates of a logistic regression with an offset, and their errors.

    By Newton's method with halved steps; None where it does not converge.
    """
    estimate = np.zeros(design.shape[1])

    def loss(at: np.ndarray) -> float:
        score = design @ at + offset
        return float(np.logaddexp(0.0, np.where(truth, -score, score)).sum())

    for _ in range(_MOST_STEPS):
        mean = 1 / (1 + np.exp(-np.clip(design @ estimate + offset, -700, 700)))
        gradient = design.T @ (truth - mean)
        information = (design * (mean * (1 - mean))[:, None]).T @ design
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            return None
        # The error after a step is about its square: two machines agree to the last bits.
        if np.abs(step).max() < 1e-8:
            return estimate + step, np.sqrt(np.diag(np.linalg.inv(information)))
        while loss(estimate + step) > loss(estimate) and np.abs(step).max() > 1e-8:
            step = step / 2
        estimate = estimate + step
    return None
