from __future__ import annotations

import math

import numpy as np
import pytest

from bc_pipeline.corrected_t_test import corrected_resampled_t, detectable_gain


def test_it_follows_the_published_formula() -> None:
    # By hand: mean 2, s^2 = 5/3, J = 4, n_test / n_train = 1, so the standard error is
    # sqrt((1/4 + 1) * 5/3) = 1.4433757 and t = 1.3856406 = .8 sqrt(3). On 3 degrees of freedom
    # P(T > t) = 1/2 - (x / (1 + x^2) + atan(x)) / pi with x = t / sqrt(3) = .8.
    by_hand = 0.5 - (0.8 / 1.64 + math.atan(0.8)) / math.pi
    result = corrected_resampled_t(np.array([[0.5, 1.5], [2.5, 3.5]]), test_share=0.5)

    assert result.mean == pytest.approx(2.0)
    assert result.p_value == pytest.approx(by_hand, abs=1e-12)
    assert result.error == pytest.approx(1.4433757, abs=1e-6)
    # t(.975, 3) = 3.1824463.
    assert result.low == pytest.approx(2.0 - 3.1824463 * 1.4433757, abs=1e-6)
    assert result.high == pytest.approx(2.0 + 3.1824463 * 1.4433757, abs=1e-6)


def test_swapping_the_sides_mirrors_the_result() -> None:
    differences = np.random.default_rng(3).normal(0.01, 0.05, (10, 5))

    forward = corrected_resampled_t(differences, 0.2)
    backward = corrected_resampled_t(-differences, 0.2)

    assert backward.mean == -forward.mean
    assert backward.p_value == pytest.approx(1.0 - forward.p_value)
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))
    assert backward.two_sided == pytest.approx(forward.two_sided)


def test_overlap_of_train_rows_makes_it_more_careful() -> None:
    differences = np.random.default_rng(5).normal(0.02, 0.05, (10, 5))

    assert (
        corrected_resampled_t(differences, 0.5).p_value
        > corrected_resampled_t(differences, 0.1).p_value
    )


def test_identical_recipes_are_never_better() -> None:
    result = corrected_resampled_t(np.zeros((10, 5)), 0.2)

    assert (result.mean, result.low, result.high) == (0.0, 0.0, 0.0)
    assert result.p_value == 0.5
    assert result.two_sided == 1.0


@pytest.mark.parametrize(("difference", "p_value"), [(0.25, 0.0), (-0.25, 1.0)])
def test_a_constant_difference_is_certain(difference: float, p_value: float) -> None:
    result = corrected_resampled_t(np.full((2, 4), difference), 0.25)

    assert result.p_value == p_value
    assert result.low == result.high == difference
    assert result.two_sided == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_all_fields_are_nan_where_a_difference_is_not_finite(bad: float) -> None:
    result = corrected_resampled_t(np.array([[0.1, bad, 0.3]]), 0.2)

    assert math.isnan(result.p_value)
    assert math.isnan(result.two_sided)
    assert not result.p_value < 0.05


@pytest.mark.parametrize(
    ("differences", "test_share", "level"),
    [
        (np.array([[0.1]]), 0.2, 0.95),
        (np.zeros((2, 2)), 0.0, 0.95),
        (np.zeros((2, 2)), 1.0, 0.95),
        (np.zeros((2, 2)), 0.2, 1.0),
    ],
)
def test_invalid_arguments_are_refused(
    differences: np.ndarray, test_share: float, level: float
) -> None:
    with pytest.raises(ValueError, match=r"must lie between|two differences"):
        corrected_resampled_t(differences, test_share, level)


def test_false_alarms_stay_near_the_level() -> None:
    """Two equal recipes in 5-fold CV on one set of rows: the plain t-test alarms far too often."""
    generator = np.random.default_rng(11)
    alarms = 0
    for _ in range(200):
        # Losses of two equally good recipes: what a row contributes does not change
        # between repeats, so the repeats are strongly correlated.
        rows = generator.normal(0.0, 1.0, 200)
        differences = np.array(
            [[part.mean() for part in np.split(generator.permutation(rows), 5)] for _ in range(10)]
        )
        alarms += corrected_resampled_t(differences, 0.2).two_sided < 0.05
    assert alarms / 200 < 0.08


def test_a_detectable_gain_is_found_as_often_as_it_says() -> None:
    error, alpha = 0.002, 0.05
    gain = detectable_gain(error, alpha, power=0.8)

    # (1.6449 + .8416) standard errors.
    assert gain == pytest.approx(2.4865 * error, abs=1e-6)
    measured = np.random.default_rng(1).normal(gain, error, 100_000)
    assert np.mean(measured > 1.644854 * error) == pytest.approx(0.8, abs=0.01)
