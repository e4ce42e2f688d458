from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bc_pipeline.evaluation.recalibration import recalibrate


def sample(slope: float, shift: float = 0.0, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose logits would have to be corrected by slope and shift."""
    draw = np.random.default_rng(3)
    logit = draw.normal(0, 2, rows)
    positive = (draw.random(rows) < 1 / (1 + np.exp(-(slope * logit + shift)))).astype(np.int8)
    return positive, 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.6])
def test_the_slope_is_found(slope: float) -> None:
    positive, probability = sample(slope)
    found = recalibrate(positive, probability)
    logit = np.log(probability / (1 - probability))
    oracle = LogisticRegression(C=np.inf).fit(logit[:, None], positive)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], abs=1e-3)
    assert abs(found.slope - slope) < 3 * found.slope_error


def test_the_intercept_is_what_is_missing_on_average() -> None:
    positive, probability = sample(1.0, shift=0.7)
    found = recalibrate(positive, probability)
    assert found.intercept == pytest.approx(0.7, abs=0.12)
    logit = np.log(probability / (1 - probability)) + found.intercept
    assert (1 / (1 + np.exp(-logit))).mean() == pytest.approx(positive.mean(), abs=1e-9)


@pytest.mark.parametrize(
    ("positive", "probability"),
    [([0, 0], [0.1, 0.2]), ([1, 1], [0.1, 0.2]), ([0, 0, 1], [0.1, 0.2, 0.3]), ([], [])],
)
def test_there_is_no_fit_where_the_rows_define_none(
    positive: list[int], probability: list[float]
) -> None:
    assert recalibrate(np.array(positive), np.array(probability)) is None


def test_probabilities_of_zero_and_one_do_no_harm() -> None:
    found = recalibrate(np.array([0, 1, 0, 1, 1]), np.array([0.0, 1.0, 0.7, 0.6, 0.2]))
    assert found is not None
    assert np.isfinite([found.slope, found.slope_error, found.intercept]).all()
