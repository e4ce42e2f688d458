from __future__ import annotations

import math

import numpy as np
import pytest

from bc_pipeline.evaluation.bootstrap import percentile_interval, row_weights


def test_each_resample_draws_as_many_rows_as_there_are() -> None:
    weights = row_weights(30, 100, 1)
    assert weights.shape == (100, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert (weights == np.round(weights)).all()


def test_resamples_follow_from_the_seed() -> None:
    assert (row_weights(10, 5, 1) == row_weights(10, 5, 1)).all()
    assert (row_weights(10, 5, 1) != row_weights(10, 5, 2)).any()


def test_resamples_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        row_weights(10, 5, 1)[0, 0] = 3


def test_rows_are_drawn_evenly() -> None:
    drawn = row_weights(20, 5000, 3).mean(axis=0)
    assert np.abs(drawn - 1.0).max() < 0.06


def test_interval_takes_the_tails_off() -> None:
    interval = percentile_interval(np.arange(1001.0), 0.9)
    assert (interval.low, interval.high, interval.level) == (
        pytest.approx(50.0),
        pytest.approx(950.0),
        0.9,
    )


def test_a_few_undefined_resamples_do_not_hide_a_tail_but_many_do() -> None:
    estimates = np.arange(100.0)
    estimates[:2] = math.nan
    assert percentile_interval(estimates, 0.95).low is not None
    estimates[:3] = math.nan
    assert percentile_interval(estimates, 0.95).low is None
    assert percentile_interval(np.array([]), 0.95).high is None
